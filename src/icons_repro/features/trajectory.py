"""What several passes over the pool say of a row, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from icons_repro.core.step import Counts

VALUES = "values.npy"
ROWS_AT_ONCE = 65_536


def gather_points(folders: Sequence[Path], out: Path) -> Counts:
    """Write `trajectory.npy`, float32 `[N, points, K]`, from `values.npy` `[N, K]` of each folder.

    Read and written in blocks; a row that any pass could not judge keeps its NaN there.
    """
    points = [np.load(folder / VALUES, mmap_mode="r") for folder in folders]
    rows, width = points[0].shape
    shape = (rows, len(points), width)
    made = open_memmap(out / "trajectory.npy", "w+", dtype=np.float32, shape=shape)
    for start in range(0, rows, ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        made[some] = np.stack([values[some] for values in points], axis=1)
    made.flush()
    return {"rows": rows, "points": len(points)}
