"""The sources that ship, by the names of `conf/influence/`, with what those files set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.names import nearest
from icons_repro.influence.sources.base import SOURCES, Source

HERE = __package__
NAMED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gradients": (f"{HERE}.gradients.Gradients", {}),
    "gradients_last": (f"{HERE}.gradients.Gradients", {"last_layers": 1}),
    "gradients_subspace": (f"{HERE}.gradients_subspace.GradientsSubspace", {}),
    "preconditioned": (f"{HERE}.preconditioned.Preconditioned", {}),
    "less": (
        f"{HERE}.gradients.Gradients",
        {"mode": "store", "train_direction": "adam", "val_direction": "sgd",
         "checkpoints": "epochs"},
    ),
    "forward": (f"{HERE}.forward.Forward", {}),
    "rds": (f"{HERE}.rds.Rds", {}),
    "clip": (f"{HERE}.clip.Clip", {}),
    "bm25": (f"{HERE}.bm25.Bm25", {}),
    "random": (f"{HERE}.random.RandomRows", {}),
}  # fmt: skip


def named_source(name: str, options: Mapping[str, Any], key: str) -> Source:
    """Return the source of this name, or of the class `module.Class`, with its arguments.

    `key` is the setting that names it. Raises `ConfigError` for what is neither, and for a wrong
    argument.
    """
    if "." not in name and name not in NAMED:
        known = ", ".join(NAMED)
        raise ConfigError(
            f"influence.{key}={name!r}: choose one of {known}, or module.Class"
            f"{nearest(name, list(NAMED))}"
        )
    target, given = NAMED.get(name, (name, {}))
    return SOURCES.make(SOURCES.named(target, key), {**given, **options})
