"""Random selection: every row has the same chance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.selection.base import Ranking, RankingSelector, canonical_order


def uniform_by_key(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """Independent uniform numbers, float64 `[N]`, drawn in key order, so that they follow the row
    and not its place in the file."""
    draws = np.empty(len(pool))
    draws[canonical_order(pool.keys)] = rng.random(len(pool))
    return draws


class Random(RankingSelector):
    """Uniform draw without replacement.

    Formula: s_i ~ U(0, 1), independent; take the k highest. Direction: high. Source: the
    Random rows of the paper's tables. Complexity: O(N log N) for the key order. Text-only rows are
    rows like any other.
    """

    name: ClassVar[str] = "random"

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """One uniform number a row."""
        return Ranking(uniform_by_key(pool, rng))
