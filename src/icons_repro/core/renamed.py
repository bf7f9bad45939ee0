"""Keys of the config that once had another name: an error says the new one, old runs are read."""

from __future__ import annotations

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
