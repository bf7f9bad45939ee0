"""The nearest centroid of each row of a block, and the sums of the rows that share one.

`search` runs in several threads, a block each; `Totals.add` takes the blocks' sums one after
another in a stated order. Neither uses atomics, so a machine gives the same bits in every run.
"""

from __future__ import annotations

import faiss
import numpy as np

from icons_repro.features.assigner import Assigner, Found


def make_assigner(device: str, centroids: np.ndarray, spherical: bool) -> Assigner:
    """An assigner of float32 centroids `[C, d]`: faiss's on "cpu", else torch's there."""
    if device == "cpu":
        return FaissAssigner(centroids, spherical)
    from icons_repro.features.on_device import TorchAssigner

    return TorchAssigner(device, centroids, spherical)


class FaissAssigner:
    """Assignment on the CPU, by faiss's blocked matrix products."""

    def __init__(self, centroids: np.ndarray, spherical: bool) -> None:
        self._centroids = centroids
        self._metric = faiss.METRIC_INNER_PRODUCT if spherical else faiss.METRIC_L2

    def search(self, x: np.ndarray, sums: bool) -> Found:
        """See `Assigner.search`."""
        found, which = faiss.knn(x, self._centroids, 1, metric=self._metric)
        labels = np.maximum(which[:, 0], 0)  # faiss gives -1 where no inner product is a number
        return found[:, 0], labels, grouped_sums(x, labels) if sums else None

    def totals(self) -> ArrayTotals:
        """See `Assigner.totals`."""
        return ArrayTotals(self._centroids.shape)


class ArrayTotals:
    """Sums in a NumPy array, which exists once something was added."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._sums: np.ndarray | None = None

    def add(self, part: tuple[np.ndarray, np.ndarray]) -> None:
        """See `Totals.add`."""
        if self._sums is None:
            self._sums = np.zeros(self._shape, dtype=np.float64)
        clusters, values = part
        self._sums[clusters] += values

    def read(self, clusters: slice) -> np.ndarray:
        """See `Totals.read`."""
        if self._sums is None:
            return np.zeros(self._shape, dtype=np.float64)[clusters]
        return self._sums[clusters]


def grouped_sums(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels that occur, ascending `[c]`, and the sums of their rows, float64 `[c, d]`."""
    order = np.argsort(labels, kind="stable")
    present, first = np.unique(labels[order], return_index=True)
    return present, np.add.reduceat(x[order].astype(np.float64), first, axis=0)
