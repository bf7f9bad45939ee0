"""ScalSelect: rows that span the dominant subspace of what questions look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from icons_repro.core.bounds import Within
from icons_repro.core.types import Pool
from icons_repro.features.rows import FeatureRows, ordered_map
from icons_repro.selection.base import Ranking, RankingSelector, feature
from icons_repro.selection.centred import Centre, centre_of
from icons_repro.selection.sets import canonical_rows, over_pool

RESOLVED = 1e-6
"""Squared singular values below this share of the largest drown in the rounding of float32."""


@dataclass(frozen=True)
class ScalSelect(RankingSelector):
    """Rank rows by their leverage in the leading singular directions of the centred features.

    Formula: X = rows minus their mean = U S V'; r = fewest singular values with at least `energy`
    of sum S^2; s_i = sum_j<=r U_ij^2. Direction: high. Source: ChangtiWu/ScalSelect, scripts/
    cur.py:61-113 (run_cur.sh turns standardising and scaling rows off), 116-147 (r), 150-193 (s)
    and 259 (order); arXiv:2602.11636. Features: the first layer's image tokens that the question
    attends to, of the model before instruction tuning. Ours: U comes from the eigenvectors of X'X,
    so that rows are read in blocks; the same numbers, but for rounding. Complexity: O(N d^2 + d^3)
    time, O(d^2) memory. A text-only row has no score and comes last, as does a row with non-finite
    features.
    """

    name: ClassVar[str] = "scalselect"
    requires: ClassVar[frozenset[str]] = frozenset({"vision_tokens"})

    energy: Annotated[float, Within(0, 1)] = 0.9

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """Leverage scores, in three passes over the features."""
        array = feature(pool, "vision_tokens")["attended"]
        rows = canonical_rows(pool, array, "vision_tokens")
        if not len(rows):
            return Ranking(np.full(len(pool), np.nan))
        leverage, components = leverage_scores(rows, self.energy)
        return Ranking(over_pool(pool, rows, leverage), notes={"components": components})


def leverage_scores(rows: FeatureRows, energy: float) -> tuple[np.ndarray, int]:
    """Return the leverage of each row, float64 `[n]`, and the number of directions r."""
    centre = centre_of(rows)
    values, vectors = np.linalg.eigh(_gram(rows, centre))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    count = components(values[: min(len(rows), rows.dim)], energy)
    kept = (vectors[:, :count] / np.sqrt(values[:count])).astype(np.float32)
    blocks = ordered_map(
        lambda places: np.square(centre.of(rows, places) @ kept, dtype=np.float64).sum(axis=1),
        rows.slices(),
    )
    return np.concatenate(list(blocks)), count


def components(squares: np.ndarray, energy: float) -> int:
    """Return the fewest leading values of `squares` (descending) that hold `energy` of the sum.

    0 where the sum is 0: rows that are all alike have no direction.
    """
    total = squares.sum()
    if not total > 0:
        return 0
    reached = int(np.searchsorted(np.cumsum(squares) / total, energy)) + 1
    return min(reached, int((squares > RESOLVED * squares[0]).sum()))


def _gram(rows: FeatureRows, centre: Centre) -> np.ndarray:
    """X'X of the centred, scaled rows, float64 `[d, d]`; blocks are float32, their sum is not."""
    total = np.zeros((rows.dim, rows.dim))

    def part(places: slice) -> Any:
        x = centre.of(rows, places)
        return x.T @ x

    for block in ordered_map(part, rows.slices()):
        total += block
    return total
