"""Nearest neighbours of feature rows: faiss's indices on the CPU, an exact one on a GPU."""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.features.rows import FeatureRows, one_threaded_blas, ordered_map

ROWS_PER_CELL = 64
"""Rows that train each cell of an inverted file; faiss asks for 39 at least."""
CODEBOOK_ROWS = 2**16
"""Rows that train codebooks of 256 words: as many as faiss would use of a larger sample."""


class Index(Protocol):
    """What is used of an index."""

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and places of the `k` nearest of each row of `x`, best first; `[m, k]`."""


def neighbour_index(
    rows: FeatureRows,
    kind: str,
    cosine: bool,
    probes: int = 1,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
) -> Index:
    """An index of the rows, which stay in it as float32 unless `kind` compresses them.

    Args:
        rows: what is indexed, in its order.
        kind: faiss's own name: "Flat" is exact, "IVF1024,Flat" and "IVF100,PQ16np" are not ("np"
            leaves out faiss's polysemous codes, half a minute of training for nothing used here).
            "RR256,IVF1024,Flat" projects to 256 numbers at random first.
        cosine: inner product, else squared L2.
        probes: cells that an inverted-file index visits for one query.
        rng: draws the rows that an index is trained on where there are more than it can use.
        device: "cpu", or where torch searches ("cuda"), which is exact and takes "Flat" alone.

    Raises:
        ConfigError: another kind of index than "Flat" on a device.
    """
    if device != "cpu":
        if kind != "Flat":
            raise ConfigError(f"selector.index={kind!r} works on the CPU; on {device} use Flat")
        from icons_repro.features.on_device import TorchFlatIndex

        return TorchFlatIndex(rows, cosine, device)
    metric = faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2
    index = faiss.index_factory(rows.dim, kind, metric)
    with one_threaded_blas():
        if not index.is_trained:
            index.train(_training_rows(rows, index, rng).gather(slice(None)))
        for _, block in rows.blocks():
            index.add(block)
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        inverted.nprobe = probes
    return index


def _training_rows(
    rows: FeatureRows, index: faiss.Index, rng: np.random.Generator | None
) -> FeatureRows:
    inverted = faiss.try_extract_index_ivf(index)
    cells = inverted.nlist if inverted is not None else 0
    count = max(CODEBOOK_ROWS, ROWS_PER_CELL * cells)
    if len(rows) <= count:
        return rows
    return rows.sample(count, rng or np.random.default_rng(0))


def nearest_neighbours(
    rows: FeatureRows, k: int, index: Index, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest other rows of every row: places int64 `[n, k]`, values float32 `[n, k]`.

    Values are inner products or squared distances, as the index has them, best first. Where there
    are fewer than `k` others the place is -1 and the value NaN. O(n^2 d) time when exact.
    """
    places = np.full((len(rows), k), -1, dtype=np.int64)
    values = np.full((len(rows), k), np.nan, dtype=np.float32)

    def search(block: slice) -> tuple[int, np.ndarray, np.ndarray]:
        return block.start, *index.search(rows.gather(block), min(k + 1, len(rows)))

    for start, found, which in ordered_map(search, rows.slices(), threads):
        own = which == np.arange(start, start + len(which))[:, None]
        own[~own.any(axis=1), -1] = True  # more duplicates than places: drop the last
        width = which.shape[1] - 1
        places[start : start + len(which), :width] = which[~own].reshape(len(which), width)
        values[start : start + len(which), :width] = found[~own].reshape(len(which), width)
    values[places < 0] = np.nan
    return places, values
