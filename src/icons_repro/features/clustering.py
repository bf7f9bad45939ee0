"""Seeded k-means and nearest neighbours over feature arrays that may be larger than memory.

faiss searches; this module decides the order of arithmetic. Rows are read in the caller's order in
blocks of a fixed size, each block is searched by one thread, and sums are taken block after block,
so the number of threads changes the time and nothing else. (Another kind of processor may round
differently: faiss and BLAS choose their kernels by it.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import faiss
import numpy as np
from threadpoolctl import ThreadpoolController

BLOCK_FLOATS = 2**22
"""Numbers in one block: 16 MB of float32."""

_CONTROLLER = ThreadpoolController()
"""Knows the BLAS and OpenMP libraries of faiss and numpy; finding them takes milliseconds."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Rows:
    """Some rows of a feature array, in a stated order, read as float32 a block at a time."""

    array: np.ndarray
    """`[N, d]`, any float dtype; may be a memory map."""
    order: np.ndarray
    """Which rows, in which order: int64 `[n]`."""
    unit: bool = False
    """Divide each row by its L2 norm (a zero row stays zero)."""

    def __len__(self) -> int:
        return len(self.order)

    @property
    def dim(self) -> int:
        """d."""
        return int(self.array.shape[1])

    @property
    def block_size(self) -> int:
        """Rows in one block; depends on d alone."""
        return max(32, min(16384, BLOCK_FLOATS // max(self.dim, 1)))

    def gather(self, indices: np.ndarray | slice) -> np.ndarray:
        """Rows at these places of `order`: float32 `[m, d]`."""
        rows = np.ascontiguousarray(self.array[self.order[indices]], dtype=np.float32)
        return unit_rows(rows) if self.unit else rows

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first place, float32 `[b, d]`) from the first row to the last."""
        for start in range(0, len(self), self.block_size):
            yield start, self.gather(slice(start, start + self.block_size))


@dataclass(frozen=True)
class Clustering:
    """A k-means result; places are those of the `Rows` it was made from."""

    centroids: np.ndarray
    """float32 `[C, d]`; of length 1 when spherical."""
    labels: np.ndarray
    """Cluster of each row, int64 `[n]`. A cluster may be empty."""
    fit: np.ndarray
    """float32 `[n]`: inner product with the own centroid (spherical) or squared distance."""

    def members(self) -> list[np.ndarray]:
        """Places of each cluster's rows, ascending; C arrays."""
        order = np.argsort(self.labels, kind="stable")
        sizes = np.bincount(self.labels, minlength=len(self.centroids))
        return np.split(order, np.cumsum(sizes)[:-1])


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm; zero rows stay zero. `[m, d]`."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return rows / np.where(norms > 0, norms, 1).astype(rows.dtype)[:, None]


def finite_rows(array: np.ndarray) -> np.ndarray:
    """Whether every number of the row is finite: bool `[N]`. One pass in blocks."""
    size = max(32, BLOCK_FLOATS // max(array.shape[1], 1))
    parts = [
        np.isfinite(array[start : start + size]).all(axis=1) for start in range(0, len(array), size)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], threads: int | None = None
) -> Iterator[R]:
    """Yield `function(item)` in order, computed by several threads, each with one-threaded BLAS.

    At most two items a thread are in flight, so items may be big. None uses every core.
    """
    count = threads or os.cpu_count() or 1
    pending: deque[Future[R]] = deque()
    with (
        _CONTROLLER.limit(limits=1),
        ThreadPoolExecutor(count, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
    ):
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def kmeans(
    rows: Rows,
    clusters: int,
    rng: np.random.Generator,
    iterations: int = 50,
    spherical: bool = True,
    threads: int | None = None,
) -> Clustering:
    """Lloyd's algorithm from `clusters` random rows (at most n), until nothing moves.

    Spherical: nearest by inner product, centroids scaled to length 1, as faiss does; Euclidean:
    nearest by distance. An empty cluster restarts at one of the rows that fit worst.
    O(iterations * n * C * d) time; beyond the array, O(C d) memory and 16 MB a thread.
    """
    count = max(1, min(clusters, len(rows)))
    start = np.sort(rng.choice(len(rows), count, replace=False))
    centroids = rows.gather(start)
    centroids = unit_rows(centroids) if spherical else centroids
    labels = np.full(len(rows), -1, dtype=np.int64)
    for _ in range(iterations):
        previous = labels
        labels, fit, sums = _assign(rows, centroids, spherical, threads)
        if np.array_equal(labels, previous):
            return Clustering(centroids, labels, fit)
        centroids = _update(rows, centroids, labels, fit, sums, spherical)
    labels, fit, _ = _assign(rows, centroids, spherical, threads)
    return Clustering(centroids, labels, fit)


def _assign(
    rows: Rows, centroids: np.ndarray, spherical: bool, threads: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest centroid and fit of every row, and the sum of each cluster's rows (float64)."""
    metric = faiss.METRIC_INNER_PRODUCT if spherical else faiss.METRIC_L2
    labels = np.empty(len(rows), dtype=np.int64)
    fit = np.empty(len(rows), dtype=np.float32)
    sums = np.zeros(centroids.shape, dtype=np.float64)

    def nearest(block: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        start, x = block
        found, which = faiss.knn(x, centroids, 1, metric=metric)
        return start, x, found[:, 0], which[:, 0]

    for start, x, found, which in ordered_map(nearest, rows.blocks(), threads):
        which = np.maximum(which, 0)  # faiss gives -1 where no inner product is a number
        labels[start : start + len(x)] = which
        fit[start : start + len(x)] = found
        order = np.argsort(which, kind="stable")
        present, first = np.unique(which[order], return_index=True)
        sums[present] += np.add.reduceat(x[order], first, axis=0, dtype=np.float64)
    return labels, fit, sums


def _update(
    rows: Rows,
    centroids: np.ndarray,
    labels: np.ndarray,
    fit: np.ndarray,
    sums: np.ndarray,
    spherical: bool,
) -> np.ndarray:
    """Means of the clusters; an empty one restarts at a badly fitting row of a larger one."""
    sizes = np.bincount(labels, minlength=len(centroids))
    means = sums / np.maximum(sizes, 1)[:, None]
    still = (sizes == 0) | ((np.linalg.norm(means, axis=1) == 0) & spherical)
    updated = np.where(still[:, None], centroids, means.astype(np.float32))
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        worst = np.argsort(fit if spherical else -fit, kind="stable")
        worst = worst[sizes[labels[worst]] > 1][: len(empty)]
        updated[empty[: len(worst)]] = rows.gather(worst)
    return unit_rows(updated) if spherical else updated


def neighbour_index(rows: Rows, kind: str, cosine: bool, probes: int = 1) -> faiss.Index:
    """A faiss index of the rows, which stay in the index as float32 unless `kind` compresses them.

    `kind` is faiss's own name of it: "Flat" is exact, "IVF1024,Flat" and "IVF100,PQ16np" are not
    ("np" leaves out faiss's polysemous codes, half a minute of training for nothing used here).
    `probes`: cells that an inverted-file index visits for one query. Inner product if `cosine`,
    else squared L2.
    """
    metric = faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2
    index = faiss.index_factory(rows.dim, kind, metric)
    with _CONTROLLER.limit(limits=1):
        if not index.is_trained:
            index.train(rows.gather(slice(None)))
        for _, block in rows.blocks():
            index.add(block)
    if hasattr(index, "nprobe"):
        index.nprobe = probes
    return index


def nearest_neighbours(
    rows: Rows, k: int, index: faiss.Index, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest other rows of every row: places int64 `[n, k]`, values float32 `[n, k]`.

    Values are inner products or squared distances, as the index has them, best first. Where there
    are fewer than `k` others the place is -1 and the value NaN. O(n^2 d) time when exact.
    """
    places = np.full((len(rows), k), -1, dtype=np.int64)
    values = np.full((len(rows), k), np.nan, dtype=np.float32)

    def search(block: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
        start, x = block
        found, which = index.search(x, min(k + 1, len(rows)))
        return start, found, which

    for start, found, which in ordered_map(search, rows.blocks(), threads):
        own = which == np.arange(start, start + len(which))[:, None]
        own[~own.any(axis=1), -1] = True  # more duplicates than places: drop the last
        width = which.shape[1] - 1
        places[start : start + len(which), :width] = which[~own].reshape(len(which), width)
        values[start : start + len(which), :width] = found[~own].reshape(len(which), width)
    values[places < 0] = np.nan
    return places, values
