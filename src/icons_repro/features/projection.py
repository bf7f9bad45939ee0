"""A random projection of feature rows to fewer numbers, for clustering in less time.

Inner products and distances keep to about 1/sqrt(k) of the rows' lengths (Johnson and Lindenstrauss
1984; with random signs, Achlioptas 2003).
"""

from __future__ import annotations

import numpy as np

from icons_repro.features.rows import BLOCK_FLOATS, FeatureRows, ordered_map

ALIGNED = 64
"""Blocks are a multiple of so many rows: a row's bits do not depend on its place in a block."""


def random_projection(
    rows: FeatureRows, dim: int, rng: np.random.Generator, threads: int | None = None
) -> FeatureRows:
    """The rows times a matrix of random signs over sqrt(dim), at the same places.

    The array is read once, from its first row to its last, whatever the order of `rows`: a memory
    map is streamed. O(n d dim) time; `4 n dim` bytes, and `4 d dim` for the matrix.
    """
    draw = rng.spawn(1)[0]  # the starting rows stay those of the exact run
    signs = draw.integers(0, 2, (rows.dim, dim), dtype=np.int8).astype(np.float32) * 2 - 1
    signs /= np.float32(np.sqrt(dim))
    out = np.empty((len(rows), dim), dtype=np.float32)
    as_stored = np.argsort(rows.order, kind="stable")
    size = max(1, BLOCK_FLOATS // max(rows.dim, dim) // ALIGNED) * ALIGNED
    blocks = (as_stored[start : start + size] for start in range(0, len(rows), size))

    def project(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.zeros((size, rows.dim), dtype=np.float32)
        x[: len(places)] = rows.gather(places)
        return places, (x @ signs)[: len(places)]

    for places, values in ordered_map(project, blocks, threads):
        out[places] = values
    return FeatureRows(out, np.arange(len(rows)), rows.unit)
