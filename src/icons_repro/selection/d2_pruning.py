"""D2-Pruning: difficulty and diversity by messages on a neighbour graph."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.neighbours import nearest_neighbours, neighbour_index
from icons_repro.selection.base import feature
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool


@dataclass(frozen=True)
class D2Pruning(SetSelector):
    """Take the best row, push its neighbours down, repeat.

    Formula: s = AUM, mean over answer tokens of p_true - max p_other, at least `clip`; forward
    message: u_i = s_i + sum_{j in NN(i)} exp(-d_ij) s_j; then repeatedly take the highest u_i and
    send the reverse message u_j -= exp(-gamma d_ij) u_i to its neighbours. d is faiss's squared
    distance (`distance: squared`), as in COINCIDE's code. Direction: high; a high AUM is easy.
    The pick is exact (a heap), where that code keeps an approximate queue. Source: Maharana et
    al. 2024; G-JWLee/COINCIDE_code, COINCIDE_cluster/tinyllava/eval/score/d2_prune/: score_aum.py:
    207-214, d2_prune.py:106-200. Complexity: the neighbour search (O(N^2 d) when exact) plus
    O((N + k neighbours) log N); memory O(N (d + neighbours)). Text-only rows are rows like any
    other; rows with non-finite features or margin come last.
    """

    name: ClassVar[str] = "d2_pruning"
    requires: ClassVar[frozenset[str]] = frozenset({"forward_stats", "hidden_mean"})

    neighbours: int = 5
    gamma: float = 0.4
    index: str = "Flat"
    """faiss's name of the index: "Flat" is exact, COINCIDE used "IVF100,PQ16np"."""
    probes: int = 1
    distance: Literal["squared", "euclidean"] = "squared"
    clip: float | None = 1e-7
    """Lower bound of s; both public codes clip at 1e-7, the paper's formula does not."""

    @property
    def uses_device(self) -> bool:
        """Whether the search is exact; faiss's other kinds of index work on the CPU."""
        return self.index == "Flat"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Build the graph, then pick greedily."""
        margin = np.asarray(feature(pool, "forward_stats")["margin"], dtype=np.float64)
        hidden = feature(pool, "hidden_mean")
        rows = canonical_rows(pool, hidden, "hidden_mean", usable=np.isfinite(margin))
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        index = neighbour_index(rows, self.index, False, self.probes, rng, pool.device)
        graph, distance = nearest_neighbours(rows, self.neighbours, index)
        distance = np.maximum(np.nan_to_num(distance.astype(np.float64), nan=np.inf), 0.0)
        distance = distance if self.distance == "squared" else np.sqrt(distance)
        s = margin[rows.order] if self.clip is None else np.maximum(margin[rows.order], self.clip)
        start = s + (np.exp(-distance) * np.where(graph < 0, 0.0, s[graph])).sum(axis=1)
        picked = greedy_pick(start, graph, np.exp(-self.gamma * distance), min(k, len(rows)))
        turn = np.full(len(rows), np.nan)
        turn[picked] = np.arange(len(picked))
        columns = {"margin": margin, "pick_order": over_pool(pool, rows, turn)}
        return Choice(rows.order[picked], over_pool(pool, rows, start), columns)


def greedy_pick(scores: np.ndarray, graph: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    """Repeatedly take the highest score, then lower its neighbours' by weight times that score.

    `graph` int64 `[n, m]` (-1: none), `weights` `[n, m]`. Equal scores go to the first row. A heap
    holds one fresh entry for each change: O((n + k m) log n).
    """
    current = scores.tolist()
    heap = [(-s, i) for i, s in enumerate(current)]
    heapq.heapify(heap)
    taken = [False] * len(current)
    picked: list[int] = []
    while len(picked) < k:
        negative, i = heapq.heappop(heap)
        if taken[i] or -negative != current[i]:
            continue
        taken[i] = True
        picked.append(i)
        for j, weight in zip(graph[i].tolist(), weights[i].tolist(), strict=True):
            if j >= 0 and not taken[j]:
                current[j] -= weight * current[i]
                heapq.heappush(heap, (-current[j], j))
    return np.array(picked, dtype=np.int64)
