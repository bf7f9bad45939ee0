"""What the methods that choose whole sets share: canonical rows, completion, quotas."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.types import Pool, Selection
from icons_repro.features.clustering import Clustering, kmeans
from icons_repro.features.rows import Array2D, FeatureRows, finite_rows
from icons_repro.selection.base import BudgetedSelector, canonical_order, check_k

PAPER_ROWS_PER_CLUSTER = 665_298 / 10_000
"""SemDeDup and COINCIDE cut LLaVA-665K into 10,000 clusters (G-JWLee/COINCIDE_code, the scripts
semdedup.sh and clustering.sh under COINCIDE_cluster/scripts/tiny_llava/eval/llava_score/)."""


@dataclass(frozen=True)
class Choice:
    """What a set method chose: at most k distinct rows."""

    positions: np.ndarray
    """int64 `[<= k]`, in any order."""
    scores: np.ndarray
    """The method's score of every row, float64 `[N]`, NaN where it has none."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class SetSelector(BudgetedSelector):
    """A method whose choice of one row depends on the others. Subclasses give `choose`."""

    @abstractmethod
    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Choose `k` rows, or every row that the method can judge if those are fewer."""

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Choose, and complete to `k` in key order with rows that the method could not judge."""
        check_k(k, len(pool))
        choice = self.choose(pool, k, rng)
        taken = np.zeros(len(pool), dtype=bool)
        taken[choice.positions] = True
        missing = k - int(taken.sum())
        notes = dict(choice.notes)
        if missing > 0 and not self.fixed_size:
            order = canonical_order(pool.keys)
            taken[order[~taken[order]][:missing]] = True
            notes["rows_added_to_fill_the_budget"] = missing
        positions = np.flatnonzero(taken).astype(np.int64)
        return Selection(positions, choice.scores, dict(choice.columns), None, notes)


def canonical_rows(
    pool: Pool,
    array: Array2D,
    name: str,
    unit: bool = False,
    usable: np.ndarray | None = None,
) -> FeatureRows:
    """The rows of a feature that are finite (and `usable`), in key order.

    Raises DataError when the feature has another number of rows than the pool.
    """
    if len(array) != len(pool):
        raise DataError(
            f"the feature {name!r} has {len(array)} rows but the pool has {len(pool)}; it was "
            "made from another pool: delete its folder and run again"
        )
    good = finite_rows(array) if usable is None else finite_rows(array) & usable
    order = canonical_order(pool.keys)
    return FeatureRows(array, order[good[order]], unit)


@dataclass(frozen=True)
class KMeansSettings:
    """How a method clusters; the defaults are exact up to a million rows."""

    clusters: int | None = None
    """None: one for 66.5 rows, as 10,000 for LLaVA-665K."""
    iterations: int = 50
    training_rows: int | None = 1_000_000
    """Centroids are learned on so many random rows where there are more; null takes all."""
    projected_dim: int | None = None
    """Cluster in a random projection to so many numbers, for a machine without a GPU."""

    @property
    def uses_device(self) -> bool:
        """True: k-means is most of the work."""
        return True

    def cluster(
        self, pool: Pool, rows: FeatureRows, rng: np.random.Generator, spherical: bool = True
    ) -> Clustering:
        """k-means of these rows on the pool's device."""
        return kmeans(
            rows,
            cluster_count(self.clusters, len(rows)),
            rng,
            self.iterations,
            spherical,
            training_rows=self.training_rows,
            projected_dim=self.projected_dim,
            device=pool.device,
        )


def over_pool(pool: Pool, rows: FeatureRows, values: np.ndarray) -> np.ndarray:
    """Values of `rows` at their pool positions, float64 `[N]`, NaN elsewhere."""
    wide = np.full(len(pool), np.nan)
    wide[rows.order] = values
    return wide


def cluster_count(clusters: int | None, rows: int) -> int:
    """How many clusters: as asked, or the paper's share (10,000 for 665,298 rows), at least 1."""
    return clusters or max(1, round(rows / PAPER_ROWS_PER_CLUSTER))


def quotas(weights: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Whole quotas in proportion to `weights`, none above its size: int64 `[C]`.

    A group smaller than its share is taken whole and the others share what is left in the same
    proportion. Fractions go to the largest remainder, then to the first group. The sum is
    min(k, sum(sizes)); groups of weight 0 are used only when the others are exhausted.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    weights = np.asarray(weights, dtype=np.float64)
    out = np.zeros(len(sizes), dtype=np.int64)
    left = min(k, int(sizes.sum()))
    open_ = (sizes > 0) & (weights > 0)
    while left > 0:
        if not open_.any():
            weights, open_ = np.ones(len(sizes)), out < sizes
        share = left * (np.where(open_, weights, 0.0) / weights[open_].sum())
        full = open_ & (share >= sizes)
        if not full.any():
            base = np.floor(share).astype(np.int64)
            most = np.argsort(base - share, kind="stable")[: left - int(base.sum())]
            base[most] += 1
            return out + base
        out[full] = sizes[full]
        left -= int(sizes[full].sum())
        open_ &= ~full
    return out
