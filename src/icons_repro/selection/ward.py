"""Ward's clusters of feature rows, and distances inside and between clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from icons_repro.features.clustering import members_of
from icons_repro.features.rows import FeatureRows, ordered_map, unit_rows

TILE = 1024
"""Rows of a tile of distances: 8 MB of them."""
HELD_FLOATS = 2**25
"""Numbers of a cluster's rows held at once, 256 MB in float64; a larger one is read in tiles."""


def ward_labels(
    rows: FeatureRows, places: np.ndarray, cut: float, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the cluster of each of `places`, from 0: int64 `[m]`.

    The tree is cut at `cut` times the height of its last merge. Of more than `most` rows so many
    are drawn, and the others go to the nearest cluster mean. O(most^2) memory.
    """
    if len(places) > most:
        sample = np.sort(rng.choice(len(places), most, replace=False))
        labels = ward_labels(rows, places[sample], cut, most, rng)
        means = cluster_means(
            rows, [places[sample[m]] for m in members_of(labels, labels.max() + 1)]
        )
        return _nearest(rows, places, means)
    if len(places) == 1:
        return np.zeros(1, dtype=np.int64)
    x = rows.gather(places).astype(np.float64)
    tree = linkage(_condensed(x - x.mean(axis=0)), method="ward")
    return fcluster(tree, t=cut * tree[-1, 2], criterion="distance").astype(np.int64) - 1


def distance_sums(
    rows: FeatureRows, places: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return sum_j d_ij w_j of each row, float64 `[m]`, and the sum of all distances d."""
    (mean,) = cluster_means(rows, [places])
    held = rows.gather(places) - mean if len(places) * rows.dim <= HELD_FLOATS else None

    def read(start: int) -> np.ndarray:
        stop = start + TILE
        return rows.gather(places[start:stop]) - mean if held is None else held[start:stop]

    weighted, total = np.zeros(len(places)), 0.0
    for start in range(0, len(places), TILE):
        x = read(start)
        for first in range(0, len(places), TILE):
            distances = _distances(x, read(first))
            if first == start:
                np.fill_diagonal(distances, 0.0)
            weighted[start : start + TILE] += distances @ weights[first : first + TILE]
            total += float(distances.sum())
    return weighted, total


def cluster_likeness(rows: FeatureRows, members: Sequence[np.ndarray]) -> np.ndarray:
    """Return each cluster's mean of exp(cosine of means) with the others: `[C]`, 1 where alone."""
    unit = unit_rows(cluster_means(rows, members))
    likeness = np.exp(unit @ unit.T)
    np.fill_diagonal(likeness, 0.0)
    return likeness.sum(axis=1) / (len(unit) - 1) if len(unit) > 1 else np.ones(1)


def cluster_means(rows: FeatureRows, members: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of each cluster's rows, float64 `[C, d]`."""

    def mean(places: np.ndarray) -> np.ndarray:
        starts = range(0, len(places), rows.block_size)
        parts = (rows.gather(places[s : s + rows.block_size]) for s in starts)
        return sum((x.sum(axis=0, dtype=np.float64) for x in parts), np.zeros(rows.dim)) / len(
            places
        )

    return np.stack(list(ordered_map(mean, members)))


def _nearest(rows: FeatureRows, places: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the nearest mean of each of `places`, int64 `[m]`; the first of equals."""
    blocks = ordered_map(
        lambda start: _distances(rows.gather(places[start : start + TILE]), means).argmin(axis=1),
        range(0, len(places), TILE),
    )
    return np.concatenate(list(blocks))


def _condensed(x: np.ndarray) -> np.ndarray:
    """Return the distances of each pair, in scipy's order: float64 `[m (m - 1) / 2]`."""
    out = np.empty(len(x) * (len(x) - 1) // 2)
    at = 0
    for start in range(0, len(x), TILE):
        tile = _distances(x[start : start + TILE], x[start:])
        for row in range(len(tile)):
            own = tile[row, row + 1 :]
            out[at : at + len(own)] = own
            at += len(own)
    return out


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 `[a, b]`, by the products: 1e-8 of a row's length."""
    x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return np.sqrt(np.maximum(squares, 0.0))
