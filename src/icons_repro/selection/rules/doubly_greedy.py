"""Doubly greedy: the rows that somebody wants most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.influence.rows.nearest import best_of_any
from icons_repro.selection.base import Ranking
from icons_repro.selection.rules.base import Rule, Seen


@dataclass(frozen=True)
class DoublyGreedy(Rule):
    """Take the rows with the highest influence on any one validation row.

    Formula: s_i = max_j A_ij over the validation rows of all tasks; high first. Source:
    arXiv:2602.14696, dcml-lab/targeted-instruction-selection, selection/doubly_greedy.py:4-10 (one
    task at a time). Several tasks together compare raw influence, as the maximum rule does.
    Complexity: one pass, O(N V).
    """

    name: ClassVar[str] = "doubly_greedy"
    needs_rows: ClassVar[bool] = True

    def choose(self, seen: Seen, k: int) -> Ranking:
        """The maximum over validation rows; ties by mean percentile rank, then key."""
        best = best_of_any(seen.by_row)
        columns = {f"best/{task}": best[:, j] for j, task in enumerate(seen.by_row.tasks)}
        return Ranking(np.max(best, axis=1), seen.mean_rank, columns)
