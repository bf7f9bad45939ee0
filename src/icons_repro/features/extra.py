"""Pool features that other packages make: what makes one, and how a selector gets it.

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Loudness(Step): ...  # stage, group, inputs, run: see core/step.py

    register_feature("loudness", step=lambda graph: Loudness(pool=graph.pool), load=read_loudness)

A module does this when it is imported; `core/plugins.py` says who imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from icons_repro.core import plugins
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step
from icons_repro.features.catalogue import FEATURES, PoolFeature

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_EXTRA: dict[str, PoolFeature] = {}


def register_feature(
    name: str, *, step: Callable[[Any], Step], load: Callable[[Path, np.ndarray], Any]
) -> None:
    """Make `name` a feature that a selector may put in `requires`."""
    _EXTRA[name] = PoolFeature(step, load)


def pool_feature(name: str) -> PoolFeature:
    """Return a feature, ours or an installed package's. Raises `ConfigError` for an unknown one."""
    if name not in FEATURES:
        plugins.load()
        if name not in _EXTRA:
            known = sorted({*FEATURES, *_EXTRA})
            raise ConfigError(f"no stage makes the feature {name!r}; known: {known}.")
    return FEATURES.get(name) or _EXTRA[name]
