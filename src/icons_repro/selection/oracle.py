"""The oracle of the tiny world: it knows which rows serve the targets."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.selection.base import Ranking, RankingSelector, feature
from icons_repro.selection.random import uniform_by_key


class Oracle(RankingSelector):
    """Draw at random from the clean rows that serve the targets.

    Formula: 3 for a clean on-target row, 2 for a clean off-target one, 1 for a mislabelled
    off-target one, 0 for a mislabelled on-target one, which teaches the wrong answer; equal rows
    in random order. Direction: high. An upper bound, not a method: it reads `truth`, which only a
    made world has. Source: ours (docs/tiny_world.md). Complexity: O(N log N).
    """

    name: ClassVar[str] = "oracle"
    requires: ClassVar[frozenset[str]] = frozenset({"truth"})

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """The class of each row; the secondary score is random."""
        truth = feature(pool, "truth")
        on_target = np.asarray(truth["on_target"], dtype=bool)
        clean = ~np.asarray(truth["mislabelled"], dtype=bool)
        score = np.where(clean, 2 + on_target, 1 - on_target.astype(np.int64))
        return Ranking(score.astype(np.float64), uniform_by_key(pool, rng))
