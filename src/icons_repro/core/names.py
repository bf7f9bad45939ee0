"""Names that people give: the nearest right one for a slip, and keys that once had another name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

RENAMED = {
    "projector": "projection",
    "finetune.steps": "finetune.regime",
    "warmup.train.steps": "warmup.train.regime",
    "pretrain.train.steps": "pretrain.train.regime",
    "features.self_filter.train.steps": "features.self_filter.train.regime",
    "gradients.train_feature": "gradients.train_direction",
    "gradients.val_feature": "gradients.val_direction",
}
"""Old key to new key; what stands below a renamed one moved with it."""


def new_name(key: str) -> str | None:
    """Return today's name of a dotted key that was renamed, else None."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known word most like `word`, or a full stop."""
    matches = difflib.get_close_matches(word, [k for k in known if k], n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else "."
