"""SemDeDup: drop rows that mean the same as another row of their cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.rows import FeatureRows, ordered_map
from icons_repro.selection.base import feature, top_k
from icons_repro.selection.sets import (
    Choice,
    KMeansSettings,
    SetSelector,
    canonical_rows,
    over_pool,
)

SIMILARITY_FLOATS = 2**24
"""Numbers in one block of a cluster's similarity matrix: 64 MB."""
MEMBER_FLOATS = 2**24
"""Numbers of a cluster's rows held at once: 64 MB; a larger cluster is read in parts, again."""


@dataclass(frozen=True)
class SemDeDup(KMeansSettings, SetSelector):
    """Keep rows without a semantic duplicate before them in their cluster.

    Formula: spherical k-means; inside a cluster, rows hard first (far from the centroid);
    m_i = max(0, max cosine to an earlier row); i is a duplicate if m_i > 1 - epsilon. Direction:
    low m. `epsilons: null` takes the k rows with the lowest m (ties: hard first), which is the
    epsilon that the budget implies. A list repeats COINCIDE's code: of these epsilons the one
    with the smallest kept set that reaches the budget, truncated in cluster order (biased); if
    none reaches it, the lowest m decides as before. Source: Abbas et al. 2023;
    G-JWLee/COINCIDE_code, COINCIDE_cluster/tinyllava/eval/score/SemDeDup/: execute_semdedup.py:
    87-112, extract_dedup_data.py:53-62. Features: last layer, last token
    (d2_prune/score_embed.py:209). Complexity: k-means plus O(sum |c|^2 d) time, O(N) memory.
    Text-only rows are rows like any other; rows with non-finite features come last.
    """

    name: ClassVar[str] = "semdedup"
    requires: ClassVar[frozenset[str]] = frozenset({"hidden_last"})

    epsilons: Sequence[float] | None = None

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Cluster, score every row by its nearest earlier neighbour, keep the lowest."""
        rows = canonical_rows(pool, feature(pool, "hidden_last"), "hidden_last", unit=True)
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        found = self.cluster(pool, rows, rng)
        members = [m[np.argsort(found.fit[m], kind="stable")] for m in found.members()]
        similarity = np.zeros(len(rows), dtype=np.float32)
        sizes = ordered_map(lambda m: (m, earlier_similarity(rows, m)), members)
        for places, values in sizes:
            similarity[places] = values
        m = min(k, len(rows))
        chosen, epsilon = self._kept(similarity, np.concatenate(members), m)
        if chosen is None:
            keys = pool.keys[rows.order]
            chosen, ties = top_k(-similarity.astype(np.float64), -found.fit, keys, m)
            epsilon = 1.0 + ties.threshold
        columns = {"cluster": over_pool(pool, rows, found.labels)}
        scores = over_pool(pool, rows, -similarity)
        return Choice(rows.order[chosen], scores, columns, {"epsilon": epsilon})

    def _kept(
        self, similarity: np.ndarray, visited: np.ndarray, k: int
    ) -> tuple[np.ndarray | None, float]:
        """Rows kept by the tightest epsilon of the list that reaches `k`, in cluster order."""
        for epsilon in sorted(self.epsilons or (), reverse=True):
            kept = visited[similarity[visited] <= 1 - epsilon]
            if len(kept) >= k:
                return kept[:k], epsilon
        return None, np.nan


def earlier_similarity(rows: FeatureRows, places: np.ndarray) -> np.ndarray:
    """max(0, max cosine to an earlier row of `places`) for each: float32 `[m]`, in blocks."""
    count = len(places)
    out = np.zeros(count, dtype=np.float32)
    width = max(1, MEMBER_FLOATS // rows.dim)
    height = min(width, max(1, SIMILARITY_FLOATS // max(min(count, width), 1)))
    whole = rows.gather(places) if count <= width else None

    def read(start: int, stop: int) -> np.ndarray:
        return rows.gather(places[start:stop]) if whole is None else whole[start:stop]

    for start in range(0, count, height):
        stop = min(start + height, count)
        x = read(start, stop)
        for first in range(0, stop, width):
            block = x @ read(first, min(first + width, stop)).T
            earlier = np.tril(block, k=start - first - 1)
            np.maximum(out[start:stop], earlier.max(axis=1, initial=0.0), out=out[start:stop])
    return out
