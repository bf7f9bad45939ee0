"""Gaussian kernels inside one cluster, and the greedy choice that lowers MMD^2 most.

A cluster's rows are read in blocks, so a cluster of any size and width takes bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icons_repro.features.rows import FeatureRows

BLOCK_DOUBLES = 2**22
"""Numbers of one block of rows, and of one block of a kernel matrix: 32 MB each."""
MATRIX_ROWS = 4096
"""Largest cluster whose whole kernel matrix is kept while it is chosen from: 128 MB."""


def mean_kernel(rows: FeatureRows, places: np.ndarray, sigma: float) -> np.ndarray:
    """Mean over the cluster of exp(-||x_i - x_j||^2 / (2 sigma^2)), i included: float64 `[m]`."""
    total = np.zeros(len(places))
    for at, _, values in _kernel_blocks(rows, places, sigma):
        total[at] += values.sum(axis=1)
    return total / len(places)


def greedy_mmd(
    rows: FeatureRows, places: np.ndarray, typical: np.ndarray, quota: int, sigma: float
) -> np.ndarray:
    """Indices into `places` of `quota` rows, each lowering MMD^2(cluster, chosen) most.

    With A rows chosen, adding i changes MMD^2 by a term that falls with (A + 1) mean_j k(i, j) -
    sum_chosen k(i, s) (k(i, i) is 1 for all). Ties go to the first. O(|c|^2 d + quota |c|) up to
    4,096 rows, O(quota |c| d) and a reading of the cluster a pick beyond.
    """
    if quota >= len(places):
        return np.arange(len(places))
    matrix = _kernel_matrix(rows, places, sigma) if len(places) <= MATRIX_ROWS else None
    near = np.zeros(len(places))
    picked: list[int] = []
    for count in range(1, quota + 1):
        gain = count * typical - near
        gain[picked] = -np.inf
        best = int(np.argmax(gain))
        picked.append(best)
        near += _kernel_row(rows, places, best, sigma) if matrix is None else matrix[best]
    return np.array(picked, dtype=np.int64)


def _kernel_matrix(rows: FeatureRows, places: np.ndarray, sigma: float) -> np.ndarray:
    out = np.empty((len(places), len(places)))
    for at, to, values in _kernel_blocks(rows, places, sigma):
        out[at, to] = values
    return out


def _kernel_row(rows: FeatureRows, places: np.ndarray, index: int, sigma: float) -> np.ndarray:
    one = _doubles(rows, places[index : index + 1])
    parts = [kernel(*one, *_doubles(rows, places[p]), sigma)[0] for p in _parts(rows, len(places))]
    return np.concatenate(parts)


def _kernel_blocks(
    rows: FeatureRows, places: np.ndarray, sigma: float
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield the kernel matrix by blocks of bounded size: (rows, columns, values)."""
    parts = _parts(rows, len(places))
    for outer in parts:
        x, x_squares = _doubles(rows, places[outer])
        for inner in parts:
            y, y_squares = (x, x_squares) if inner == outer else _doubles(rows, places[inner])
            height = max(1, BLOCK_DOUBLES // len(y))
            for start in range(0, len(x), height):
                some = slice(start, min(start + height, len(x)))
                values = kernel(x[some], x_squares[some], y, y_squares, sigma)
                yield slice(outer.start + some.start, outer.start + some.stop), inner, values


def _parts(rows: FeatureRows, count: int) -> list[slice]:
    size = max(1, BLOCK_DOUBLES // max(rows.dim, 1))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _doubles(rows: FeatureRows, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as float64 `[m, d]` and their squared norms."""
    x = rows.gather(places).astype(np.float64)
    return x, (x * x).sum(axis=1)


def kernel(
    a: np.ndarray, a_squares: np.ndarray, b: np.ndarray, b_squares: np.ndarray, sigma: float
) -> np.ndarray:
    """Gaussian kernel `[len(a), len(b)]` from rows and their squared norms."""
    distance = np.maximum(a_squares[:, None] + b_squares - 2.0 * (a @ b.T), 0.0)
    return np.exp(-distance / (2.0 * sigma * sigma))
