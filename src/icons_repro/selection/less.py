"""LESS: the rows most similar to any target, in the direction that Adam would move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.bounds import Name, Names
from icons_repro.core.types import Pool
from icons_repro.selection.base import Ranking, RankingSelector
from icons_repro.selection.icons import task_influence


@dataclass(frozen=True)
class Less(RankingSelector):
    """Take the rows with the highest influence on some sub-task.

    Formula: Inf(z) = max over sub-tasks of the mean over validation rows of
    sum_c eta_c cos(Adam direction of z at checkpoint c, gradient of z' at c); eta_c, the mean
    learning rate of epoch c, sums to 1. The sums are in the influence matrix; this takes the
    maximum. One task in `tasks` is LESS as published; with several, the maximum runs over all
    their sub-tasks, which is our reading (LESS is not multi-task). Direction: high, top k
    globally. Source: princeton-nlp/LESS, less/data_selection/matching.py:44-79. Complexity: O(N T).
    Rows with a NaN influence come last; text-only rows have gradients like any other row.
    """

    name: ClassVar[str] = "less"

    influence: Name = "influence_less"
    """Which influence artifact to read; "influence" is ICONS' own, as `gradients` says."""
    tasks: Names | None = None

    @property
    def requires(self) -> frozenset[str]:
        """The influence matrix it was told to read."""
        return frozenset({self.influence})

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """The maximum over tasks and sub-tasks."""
        values, tasks = task_influence(pool, self.tasks, "max", self.influence)
        columns = {f"influence/{task}": values[:, j] for j, task in enumerate(tasks)}
        return Ranking(values.max(axis=1), None, columns, {"tasks": list(tasks)})
