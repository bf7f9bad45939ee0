"""Seeded k-means over feature arrays that may be larger than memory.

faiss searches (torch does on another device); this module decides the order of arithmetic. Rows are
read in the caller's order in blocks of a fixed size, each block is read, searched and summed by one
thread, and the blocks' sums are added one after another, so the number of threads changes the time
and nothing else. (Another kind of processor may round differently: faiss and BLAS choose their
kernels by it.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.features.assigner import Assigner, Totals
from icons_repro.features.assignment import make_assigner
from icons_repro.features.projection import random_projection
from icons_repro.features.rows import BLOCK_FLOATS, FeatureRows, ordered_map, unit_rows


@dataclass(frozen=True)
class Clustering:
    """A k-means result; places are those of the `FeatureRows` it was made from."""

    centroids: np.ndarray
    """float32 `[C, d]`; of length 1 when spherical."""
    labels: np.ndarray
    """Cluster of each row, int64 `[n]`. A cluster may be empty."""
    fit: np.ndarray
    """float32 `[n]`: inner product with the own centroid (spherical) or squared distance."""

    def members(self) -> list[np.ndarray]:
        """Places of each cluster's rows, ascending; C arrays."""
        return members_of(self.labels, len(self.centroids))


def members_of(labels: np.ndarray, clusters: int) -> list[np.ndarray]:
    """Places of each cluster's rows, ascending; one array a cluster."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=clusters)
    return np.split(order, np.cumsum(sizes)[:-1])


def kmeans(
    rows: FeatureRows,
    clusters: int,
    rng: np.random.Generator,
    iterations: int = 50,
    spherical: bool = True,
    threads: int | None = None,
    training_rows: int | None = None,
    projected_dim: int | None = None,
    device: str = "cpu",
) -> Clustering:
    """Lloyd's algorithm from `clusters` random rows (at most n), until nothing moves.

    Spherical: nearest by inner product, centroids scaled to length 1, as faiss does; Euclidean:
    nearest by distance. An empty cluster restarts at one of the rows that fit worst.
    O(iterations * n * C * d) time; beyond the array, O(C d) memory and 50 MB a thread.

    Two approximations, neither of which draws anything where it changes nothing:

    Args:
        training_rows: if there are more rows, centroids are learned on a random sample of so many,
            and then every row is given to its nearest one.
        projected_dim: if rows are longer, they are clustered after a random projection to so many
            numbers (Johnson-Lindenstrauss; kept as float32 in memory). Centroids and fits are those
            of the full rows all the same.
        device: "cpu", or where torch searches and sums ("cuda").

    Raises:
        ConfigError: fewer training rows than clusters.
    """
    space = rows
    if projected_dim is not None and projected_dim < rows.dim:
        space = random_projection(rows, projected_dim, rng, threads)
    training = space
    if training_rows is not None and training_rows < len(rows):
        if training_rows < clusters:
            raise ConfigError(
                f"training_rows={training_rows} is less than the {clusters} clusters to be learned "
                "from them; ask for at least ten rows a cluster, or for fewer clusters"
            )
        training = space.sample(training_rows, rng)
    found = _lloyd(training, clusters, rng, iterations, spherical, threads, device)
    if training is not space:
        assigner = make_assigner(device, found.centroids, spherical)
        labels, fit, _ = _assign(space, assigner, threads, sums=False)
        found = Clustering(found.centroids, labels, fit)
    return found if space is rows else _in_full_space(rows, found, spherical, threads)


def _lloyd(
    rows: FeatureRows,
    clusters: int,
    rng: np.random.Generator,
    iterations: int,
    spherical: bool,
    threads: int | None,
    device: str,
) -> Clustering:
    count = max(1, min(clusters, len(rows)))
    start = np.sort(rng.choice(len(rows), count, replace=False))
    centroids = rows.gather(start)
    centroids = unit_rows(centroids) if spherical else centroids
    labels = np.full(len(rows), -1, dtype=np.int64)
    for _ in range(iterations):
        previous = labels
        assigner = make_assigner(device, centroids, spherical)
        labels, fit, totals = _assign(rows, assigner, threads)
        if np.array_equal(labels, previous):
            return Clustering(centroids, labels, fit)
        centroids = _update(rows, centroids, labels, fit, totals, spherical)
    labels, fit, _ = _assign(rows, make_assigner(device, centroids, spherical), threads, sums=False)
    return Clustering(centroids, labels, fit)


def _assign(
    rows: FeatureRows, assigner: Assigner, threads: int | None, sums: bool = True
) -> tuple[np.ndarray, np.ndarray, Totals]:
    """Nearest centroid and fit of every row, and (`sums`) the sum of each cluster's rows."""
    labels = np.empty(len(rows), dtype=np.int64)
    fit = np.empty(len(rows), dtype=np.float32)
    totals = assigner.totals()
    work = ordered_map(
        lambda p: (p, *assigner.search(rows.gather(p), sums)), rows.slices(), threads
    )
    for places, found, which, part in work:
        labels[places], fit[places] = which, found
        if part is not None:
            totals.add(part)
    return labels, fit, totals


def _update(
    rows: FeatureRows,
    centroids: np.ndarray,
    labels: np.ndarray,
    fit: np.ndarray,
    totals: Totals,
    spherical: bool,
) -> np.ndarray:
    """Means of the clusters; an empty one restarts at a badly fitting row of a larger one."""
    sizes = np.bincount(labels, minlength=len(centroids))
    updated = centroids.copy()
    chunk = max(1, BLOCK_FLOATS // max(rows.dim, 1))
    for first in range(0, len(centroids), chunk):
        part = slice(first, first + chunk)
        means = totals.read(part) / np.maximum(sizes[part], 1)[:, None]
        moves = (sizes[part] > 0) & ((np.linalg.norm(means, axis=1) != 0) | (not spherical))
        updated[part][moves] = means[moves]
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        worst = np.argsort(fit if spherical else -fit, kind="stable")
        worst = worst[sizes[labels[worst]] > 1][: len(empty)]
        updated[empty[: len(worst)]] = rows.gather(worst)
    return unit_rows(updated) if spherical else updated


def _in_full_space(
    rows: FeatureRows, found: Clustering, spherical: bool, threads: int | None
) -> Clustering:
    """The same clusters with the means and fits of the full rows; an empty one's mean is zero."""
    centroids = np.zeros((len(found.centroids), rows.dim), dtype=np.float32)
    fit = np.empty(len(rows), dtype=np.float32)
    members = members_of(found.labels, len(centroids))
    occupied = [c for c, places in enumerate(members) if len(places)]
    work = ordered_map(
        lambda c: (c, *_mean_and_fit(rows, members[c], spherical)), occupied, threads
    )
    for cluster, mean, values in work:
        centroids[cluster], fit[members[cluster]] = mean, values
    return Clustering(centroids, found.labels, fit)


def _mean_and_fit(
    rows: FeatureRows, places: np.ndarray, spherical: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of these rows (of length 1 if spherical) and how each fits it; in blocks."""
    size = rows.block_size
    blocks = [places[start : start + size] for start in range(0, len(places), size)]
    kept = [rows.gather(blocks[0])] if len(blocks) == 1 else None
    total = np.zeros(rows.dim, dtype=np.float64)
    for x in kept or map(rows.gather, blocks):
        total += x.sum(axis=0, dtype=np.float64)
    mean = (total / len(places)).astype(np.float32)
    if spherical:
        mean = unit_rows(mean[None])[0]
        parts = [x @ mean for x in kept or map(rows.gather, blocks)]
    else:
        parts = [((x - mean) ** 2).sum(axis=1) for x in kept or map(rows.gather, blocks)]
    return mean, np.concatenate(parts)
