"""Feature arrays on disk: one `.npy` file each, preallocated, addressed by pool position."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.lib.format import open_memmap

from icons_repro.core.errors import DataError
from icons_repro.core.files import replacing
from icons_repro.core.rowfiles import MARKS, RowFiles, marked, reserve

Column = tuple[tuple[int, ...], str]
"""The shape of one row (`()` for a number) and the dtype, float32 or float16."""
Columns = Mapping[str, Column]
"""The arrays to fill, by name."""
DONE = 1
"""The one status of a row."""


class FeatureArrays:
    """Writes rows of several arrays in any order, beside other writers; use it in a `with` block.

    It goes on from what killed ones left.
    """

    def __init__(
        self, folder: Path, n_rows: int, columns: Columns, flush_seconds: float = 5.0
    ) -> None:
        self.folder = folder
        self.n_rows = n_rows
        self._dtypes = {name: np.dtype(dtype) for name, (_, dtype) in columns.items()}
        layout = {
            f"{name}.npy": _reserve(folder / f"{name}.npy", (n_rows, *shape), np.dtype(dtype))
            for name, (shape, dtype) in columns.items()
        }
        self._files = RowFiles(folder, layout, flush_seconds)
        self._done = marked(folder, n_rows)

    def pending(self, positions: np.ndarray) -> np.ndarray:
        """Return those of `positions` that have no row yet."""
        return positions[self._done[positions] == 0]

    def write(self, positions: np.ndarray, rows: Mapping[str, torch.Tensor]) -> None:
        """Store rows `[B, ...]` of every array at `positions` `[B]`.

        A number too large for the array's dtype becomes infinite; selectors take such rows last.
        """
        if set(rows) != set(self._dtypes):
            raise DataError(f"rows of {sorted(rows)} for arrays {sorted(self._dtypes)}")
        data = {}
        for name, values in rows.items():
            kind = torch.float16 if self._dtypes[name] == np.float16 else torch.float32
            data[f"{name}.npy"] = values.detach().to(kind).cpu().numpy()
        self._files.write(positions, data, np.full(len(positions), DONE, np.uint8))
        self._done[positions] = DONE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()


def finish(folder: Path, n_rows: int, brought: np.ndarray) -> dict[str, int]:
    """Fill the other rows than those `brought` (positions) with NaN, and return the counts.

    Raises `DataError` if one of them is missing.
    """
    missing = np.flatnonzero(marked(folder, n_rows) == 0)
    if len(lost := np.intersect1d(missing, brought)):
        raise DataError(
            f"{folder}: {len(lost)} of {len(brought)} rows are missing, first position {lost[0]}. "
            "Delete the folder, and the same command begins it anew."
        )
    for path in sorted(folder.glob("*.npy")):
        array = open_memmap(path, "r+")
        array[missing] = np.nan
        array.flush()
    shutil.rmtree(folder / MARKS, ignore_errors=True)
    return {"rows": n_rows, "without_feature": len(missing)}


def _reserve(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int]:
    """Make the file, or check the one that is there; return bytes of its header and of a row."""
    row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    if not path.is_file():
        _write_header(path, shape, dtype)
    with path.open("rb") as file:
        npy.read_magic(file)
        found, _, kind = npy.read_array_header_1_0(file)
        header = file.tell()
    if found != shape or kind != dtype:
        raise DataError(
            f"{path} holds {found} of {kind}, not {shape} of {dtype}: another run "
            "left it. Delete its folder and start again."
        )
    reserve(path.parent, {path.name: header + shape[0] * row}, "Free some space.")
    return header, row


def _write_header(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Put the header in place, whole; the rows come later."""
    with replacing(path) as part, part.open("wb") as file:
        described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, described)
