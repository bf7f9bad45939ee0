"""Equal shares of each specialist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool, Selection
from icons_repro.influence.consensus import Subtasks
from icons_repro.selection.base import BudgetedSelector
from icons_repro.selection.icons import Icons


@dataclass(frozen=True)
class RoundRobin(BudgetedSelector):
    """Target tasks take turns; each takes its most influential row that is still free.

    Formula: task t's order is I_t descending, then content key; turns go in task order. The score
    of a row is minus its turn, NaN if not taken. Direction: high influence. Source: ours, the
    plainest way to starve nobody; the paper's rules are in docs/methods.md#aggregation-rules.
    Complexity: O(N T + k T log k). Rows with a NaN influence come last.
    """

    name: ClassVar[str] = "round_robin"
    requires: ClassVar[frozenset[str]] = frozenset({"influence"})
    fixed_size: ClassVar[bool] = False

    tasks: Sequence[str] | None = None
    subtasks: Subtasks = "max"

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """The rule `round_robin` of ICONS' consensus."""
        icons = Icons(rule="round_robin", tasks=self.tasks, subtasks=self.subtasks)
        return icons.select(pool, k, rng)
