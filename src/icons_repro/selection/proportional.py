"""Votes that cost: every target task has the same purse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from icons_repro.core.bounds import Names, Within
from icons_repro.core.types import Pool, Selection
from icons_repro.influence.consensus import Subtasks
from icons_repro.selection.base import BudgetedSelector
from icons_repro.selection.icons import Icons


@dataclass(frozen=True)
class Proportional(BudgetedSelector):
    """Take the rows with most votes, where a row's voters pay for it and the poor fall silent.

    Formula: k / T for each task; row after row, the free row with most votes of tasks that have a
    row's price, which share it (selection/rules/proportional.py). The score of a row is minus its
    turn, NaN if not taken. Direction: high influence. Source: ours, after the method of equal
    shares (docs/methods.md#proportional-votes). Complexity: O(N T^2 + T k log k). Rows with a NaN
    influence have no vote and come last.
    """

    name: ClassVar[str] = "proportional"
    requires: ClassVar[frozenset[str]] = frozenset({"influence"})
    fixed_size: ClassVar[bool] = False

    percentile: Annotated[float, Within(0, 100)] | Literal["budget"] = 90.0
    tasks: Names | None = None
    subtasks: Subtasks = "max"

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """The rule `proportional` of ICONS' consensus."""
        icons = Icons(
            rule="proportional",
            percentile=self.percentile,
            tasks=self.tasks,
            subtasks=self.subtasks,
        )
        return icons.select(pool, k, rng)
