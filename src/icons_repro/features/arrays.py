"""Feature arrays on disk: one `.npy` file each, preallocated, addressed by pool position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from icons_repro.core.errors import DataError

Column = tuple[tuple[int, ...], str]
"""The shape of one row (`()` for a number) and the dtype, float32 or float16."""
Columns = Mapping[str, Column]
"""The arrays to fill, by name."""
DONE = "done.bin"
"""One byte a row while the folder is being filled; gone once it is finished."""


class FeatureArrays:
    """Writes rows of several arrays in any order; goes on from what a killed process left."""

    def __init__(self, folder: Path, n_rows: int, columns: Columns) -> None:
        self.folder = folder
        resume = (folder / DONE).is_file()
        self.arrays = {
            name: _open(folder / f"{name}.npy", (n_rows, *shape), dtype, resume)
            for name, (shape, dtype) in columns.items()
        }
        path, size = folder / DONE, (n_rows,)
        done = np.memmap(path, np.uint8, "r+" if resume else "w+", shape=size)
        self._done = done

    def pending(self, positions: np.ndarray) -> np.ndarray:
        """Return those of `positions` that have no row yet."""
        return positions[self._done[positions] == 0]

    def write(self, positions: np.ndarray, rows: Mapping[str, torch.Tensor]) -> None:
        """Store rows `[B, ...]` of every array at `positions` `[B]`.

        A number too large for the array's dtype becomes infinite; selectors take such rows last.
        """
        if set(rows) != set(self.arrays):
            raise DataError(f"rows of {sorted(rows)} for arrays {sorted(self.arrays)}")
        for name, values in rows.items():
            kind = torch.float16 if self.arrays[name].dtype == np.float16 else torch.float32
            self.arrays[name][positions] = values.detach().to(kind).cpu().numpy()
        self._done[positions] = 1

    def finish(self) -> dict[str, int]:
        """Fill rows that were never written with NaN, flush, and return the counts."""
        missing = np.flatnonzero(self._done == 0)
        for array in self.arrays.values():
            array[missing] = np.nan
            array.flush()
        (self.folder / DONE).unlink()
        return {"rows": len(self._done), "without_feature": len(missing)}


def _open(path: Path, shape: tuple[int, ...], dtype: str, resume: bool) -> np.memmap:
    if not resume:
        return open_memmap(path, "w+", np.dtype(dtype), shape)
    found = open_memmap(path, "r+")
    if found.shape != shape or found.dtype != np.dtype(dtype):
        raise DataError(
            f"{path} holds {found.shape} of {found.dtype}, not {shape} of {dtype}: another run "
            "left it. Delete its folder and start again."
        )
    return found
