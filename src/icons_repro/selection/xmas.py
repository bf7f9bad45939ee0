"""XMAS: rows whose attention to the image moves alike while a proxy is trained are redundant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from icons_repro.core.bounds import Count, Within
from icons_repro.core.errors import DataError
from icons_repro.core.types import Pool
from icons_repro.selection.base import feature
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.random_per_source import highest_per_group
from icons_repro.selection.sets import (
    Choice,
    KMeansSettings,
    SetSelector,
    canonical_rows,
    over_pool,
)

ROWS_PER_CLUSTER = 665_298 / 1_000
"""The public code cuts LLaVA-665K into 1,000 clusters (XMAS/kmeans_clustering.py:108)."""
ROWS_AT_ONCE = 65_536
TOO_SMALL = 2
"""Clusters of so many rows or fewer are not drawn from."""


@dataclass(frozen=True)
class Xmas(KMeansSettings, SetSelector):
    """The same number of rows from every cluster of trajectories, the steadiest first.

    Formula: x_it = the sum of the `singular_values` largest singular values of row i's cross-modal
    attention at point t of a run (`attention_trajectory`); Euclidean k-means of x_i; instability
    s_i = sum_t |x_i(t+1) - x_it|. All rows without an image are one more cluster. Clusters from the
    smallest on: of k' rows left to take and c clusters left, floor(k' / c) rows (or all it has),
    lowest s first; text-only rows at random; clusters of at most two rows are left out. Direction:
    low s. Source: Naharas et al. 2025, arXiv:2510.01454; BigML-CS-UCLA/XMAS, XMAS/
    kmeans_clustering.py:56-66 (x), 101-119 (k-means), 128-136 (s), XMAS/cluster_data_selection.py:
    34-79 (the draw), K and the layers in XMAS/scripts/inference/. The paper's body was not read.
    Differences: the proxy is the run's model (`selection_model=` takes a smaller one), trained with
    the run's LoRA recipe, seen at `features.trajectory_points` points; k-means learns from all rows
    up to a million (faiss takes 256 a cluster). Complexity: k-means on [N, T], O(N log N); memory
    O(N T) beyond the features. Image rows with non-finite features come last.
    """

    name: ClassVar[str] = "xmas"
    requires: ClassVar[frozenset[str]] = frozenset({"attention_trajectory"})

    iterations: Count = 100
    singular_values: Annotated[int, Within(1, 5)] = 5
    """How many of the largest are added up."""

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Cluster the trajectories, share the budget out, take the steadiest rows."""
        draws = uniform_by_key(pool, rng)
        path = trajectories(feature(pool, "attention_trajectory"), self.singular_values)
        rows = canonical_rows(pool, path, "attention_trajectory", usable=pool.has_image)
        text = np.flatnonzero(~pool.has_image)
        labels, unsteady = np.zeros(0, dtype=np.int64), np.zeros(0)
        if len(rows):
            count = self.clusters or max(1, round(len(rows) / ROWS_PER_CLUSTER))
            labels = replace(self, clusters=count).cluster(pool, rows, rng, spherical=False).labels
            unsteady = instability(path[rows.order])
        clusters = int(labels.max(initial=-1)) + 1
        group = np.concatenate([labels, np.full(len(text), clusters)])
        take = balanced(np.bincount(group, minlength=clusters + 1), k)
        places = np.concatenate([rows.order, text])
        chosen = highest_per_group(np.concatenate([-unsteady, draws[text]]), group, take)
        columns = {
            "cluster": over_pool(pool, rows, labels),
            "instability": over_pool(pool, rows, unsteady),
        }
        notes = {"clusters": clusters, "text_rows_taken": int(take[clusters])}
        return Choice(places[chosen], over_pool(pool, rows, -unsteady), columns, notes)


def trajectories(values: np.ndarray, count: int) -> np.ndarray:
    """Sum of the `count` largest of `[N, T, K]` at each point: float32 `[N, T]`.

    Raises DataError where one point alone was kept, or fewer values than `count`.
    """
    if values.ndim != 3 or values.shape[1] < 2 or values.shape[2] < count:
        raise DataError(
            f"attention_trajectory is {values.shape}: it takes at least two points of a run and "
            f"{count} singular values ([N, T, K]); raise features.trajectory_points"
        )
    out = np.empty(values.shape[:2], dtype=np.float32)
    for start in range(0, len(values), ROWS_AT_ONCE):
        upwards = np.sort(values[start : start + ROWS_AT_ONCE], axis=2)
        out[start : start + ROWS_AT_ONCE] = upwards[:, :, values.shape[2] - count :].sum(axis=2)
    return out


def instability(path: np.ndarray) -> np.ndarray:
    """How far each row of `[n, T]` travels: the sum of its absolute steps, float64 `[n]`."""
    return np.abs(np.diff(path.astype(np.float64), axis=1)).sum(axis=1)


def balanced(sizes: np.ndarray, k: int) -> np.ndarray:
    """Rows to take from each cluster, smallest cluster first: int64 `[C]`, sum at most k.

    What a cluster is short of goes to the larger ones; one of `TOO_SMALL` rows gives none.
    """
    take = np.zeros(len(sizes), dtype=np.int64)
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > TOO_SMALL]
    left = k
    for done, cluster in enumerate(order):
        take[cluster] = min(int(sizes[cluster]), left // (len(order) - done))
        left -= int(take[cluster])
    return take
