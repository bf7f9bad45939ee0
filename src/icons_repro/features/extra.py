"""Pool features that other packages make: what makes one, and how a selector gets it.

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Loudness(Step): ...  # stage, group, inputs, run: see core/step.py

    register_feature("loudness", step=lambda graph: Loudness(pool=graph.pool), load=read_loudness)

A module does this when it is imported; `core/plugins.py` says who imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icons_repro.core import plugins
from icons_repro.core.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class ExtraFeature:
    """One feature of another package."""

    step: Callable[[Any], Step]
    """From the run's `Graph` to the step that makes the feature."""
    load: Callable[[Path, np.ndarray], Any]
    """From the step's folder and the usable rows (bool `[N]`) to what selectors get."""


_KNOWN: dict[str, ExtraFeature] = {}


def register_feature(
    name: str, *, step: Callable[[Any], Step], load: Callable[[Path, np.ndarray], Any]
) -> None:
    """Make `name` a feature that a selector may put in `requires`."""
    _KNOWN[name] = ExtraFeature(step, load)


def extra_feature(name: str) -> ExtraFeature | None:
    """Return the feature of that name, or None if no installed package registers it."""
    plugins.load()
    return _KNOWN.get(name)


def extra_names() -> list[str]:
    """Return the names of all features of other packages."""
    plugins.load()
    return sorted(_KNOWN)
