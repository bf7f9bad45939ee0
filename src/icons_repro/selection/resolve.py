"""From a selector's config to the selector; `core/registry.py` says what a config may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icons_repro.core.registry import Kind
from icons_repro.selection.base import BudgetedSelector

SELECTORS: Kind[BudgetedSelector] = Kind(
    key="selector",
    base=BudgetedSelector,  # type: ignore[type-abstract]
    package="icons_repro.selection",
    noun="selector",
    advice=(
        "A selector is a class that extends RankingSelector (icons_repro/selection/base.py) or "
        "SetSelector (icons_repro/selection/sets.py)."
    ),
)


def build_selector(config: Mapping[str, Any]) -> BudgetedSelector:
    """Build the selector that `config[_target_]` names, with the other keys as its arguments.

    Raises `ConfigError`, naming the key and the nearest right one, for whatever it cannot be.
    """
    return SELECTORS.build(config)
