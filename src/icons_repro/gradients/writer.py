"""Writing a gradient store so that a kill at any moment costs a few seconds and changes no byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icons_repro.core.errors import DataError
from icons_repro.core.files import replacing
from icons_repro.core.rowfiles import MARKS, Closing, RowFiles, marked, reserve
from icons_repro.core.types import KEY_DTYPE
from icons_repro.gradients.rows import RowCodec
from icons_repro.gradients.store import STATUS, RowStatus, StoreInfo, status_counts


class StoreWriter(Closing):
    """Writes rows by position; made or resumed by `open_writer`, used in a `with` block.

    Any number of writers, on any hosts, fill one store together; see `core/rowfiles.py`. Rows that
    an earlier run gave up as out of memory are pending again, for one more try.
    """

    def __init__(self, folder: Path, info: StoreInfo, flush_seconds: float = 5.0) -> None:
        self.folder = folder
        self.info = info
        self.codec = RowCodec(info.dtype, info.dim)
        self._files = RowFiles(
            folder,
            {"rows.bin": (0, self.codec.row_bytes), "norms.bin": (0, 4), "scales.bin": (0, 4)},
            flush_seconds,
        )
        self._status = known_status(folder, info.n_rows)
        self._status[self._status == RowStatus.out_of_memory] = RowStatus.pending

    def write(
        self,
        positions: Sequence[int] | np.ndarray,
        rows: torch.Tensor,
        norms: torch.Tensor,
        status: Sequence[int] | np.ndarray,
    ) -> None:
        """Write rows; writing the same ones again changes nothing.

        Args:
            positions: positions in the pool `[n]`.
            rows: float32 `[n, dim]`, normalised; zeros where `status` is not ok.
            norms: lengths before normalising `[n]`.
            status: `RowStatus` of each row `[n]`.

        Raises:
            DataError: a position is not one of this store's.
        """
        index = np.asarray(positions, dtype=np.int64)
        if len(index) and (index.min() < 0 or index.max() >= self.info.n_rows):
            raise DataError(f"{self.folder}: no row for a position among {list(positions)[:5]}...")
        data, scales = self.codec.encode(rows)
        lengths = norms.detach().to("cpu", torch.float32).numpy()
        codes = np.asarray(status, dtype=np.uint8)
        self._files.write(
            index, {"rows.bin": data, "norms.bin": lengths, "scales.bin": scales}, codes
        )
        self._status[index] = codes

    def exclude(self, positions: Sequence[int] | np.ndarray, reason: RowStatus) -> None:
        """Record rows that will hold no gradient, and why."""
        n = len(positions)
        self.write(positions, torch.zeros(n, self.info.dim), torch.zeros(n), [int(reason)] * n)

    def flush(self) -> None:
        """Bring the data to disk, then mark the rows as done."""
        self._files.flush()

    def pending(self) -> np.ndarray:
        """Return the positions without a row when this writer was opened, less its own."""
        return np.flatnonzero(self._status == RowStatus.pending)

    def lacks(self, positions: np.ndarray) -> bool:
        """Say whether any of these positions is without a row, as far as this writer knows."""
        return bool((self._status[positions] == RowStatus.pending).any())

    def close(self) -> None:
        """Mark what was written."""
        self._files.close()


def seal(folder: Path | str, unusable: Sequence[int] | np.ndarray = ()) -> StoreInfo:
    """Turn all writers' marks into the store's status, and note the counts in `info.json`.

    `unusable` are positions whose records no batch brings. Safe to call again.

    Raises:
        DataError: rows are still missing.
    """
    folder = Path(folder)
    info = StoreInfo.load(folder)
    status = known_status(folder, info.n_rows)
    left = np.asarray(unusable, dtype=np.int64)
    status[left[status[left] == RowStatus.pending]] = RowStatus.unusable
    require_whole(folder, status)
    with replacing(folder / STATUS) as part:
        status.tofile(part)
    info = replace(info, rows=status_counts(status))
    info.save(folder)
    shutil.rmtree(folder / MARKS, ignore_errors=True)
    return info


def require_whole(folder: Path, status: np.ndarray) -> None:
    """Raise `DataError` if a row is still missing."""
    missing = np.flatnonzero(status == RowStatus.pending)
    if len(missing):
        raise DataError(
            f"{folder}: {len(missing)} of {len(status)} rows are still missing, first position "
            f"{missing[0]}. Run the extraction again: it resumes."
        )


def open_writer(
    folder: Path | str,
    *,
    n_rows: int,
    dim: int,
    dtype: str = "float16",
    identities: Mapping[str, Any],
    keys: Sequence[str] | np.ndarray | None = None,
    flush_seconds: float = 5.0,
    made_with: Mapping[str, Any] | None = None,
) -> StoreWriter:
    """Reserve a store, or take up one that was begun with the same description.

    Args:
        folder: where; made if need be.
        n_rows: rows of this store.
        dim: length of a row.
        dtype: `float32`, `float16`, `bfloat16`, `int8` or `bit1`.
        identities: what the rows depend on; at least `model`, `adapter`, `projection`, `direction`
            where scoring is to check them.
        keys: content keys of the rows `[n_rows]`; row numbers where the data have none.
        flush_seconds: how much work a kill may cost.
        made_with: see `StoreInfo.made_with`; a store taken up keeps its own.

    Raises:
        DataError: the disk is too small, or the folder holds a store of another description.
    """
    folder = Path(folder)
    info = StoreInfo(n_rows, dim, dtype, dict(identities), made_with=dict(made_with or {}))
    if keys is None:
        keys = [f"row-{i}" for i in range(n_rows)]
    wanted = np.asarray(keys).astype(KEY_DTYPE)
    if len(wanted) != n_rows:
        raise DataError(f"{folder}: {len(wanted)} keys for {n_rows} rows")
    if (folder / "info.json").is_file():
        info = _require_same_store(folder, info, wanted)
    else:
        _reserve(folder, info, wanted)
    return StoreWriter(folder, info, flush_seconds)


def pending(folder: Path | str) -> np.ndarray:
    """Return the positions that a begun store still lacks, int64, ascending."""
    folder = Path(folder)
    status = known_status(folder, StoreInfo.load(folder).n_rows)
    return np.flatnonzero(status == RowStatus.pending)


def known_status(folder: Path, n_rows: int) -> np.ndarray:
    """Return each row's status as it stands: sealed, or marked by any writer so far."""
    sealed = folder / STATUS
    before = np.fromfile(sealed, np.uint8) if sealed.is_file() else None
    return marked(folder, n_rows, before)


def given_up(folder: Path | str) -> np.ndarray:
    """Return the positions of rows that did not fit in memory even alone, int64, ascending."""
    folder = Path(folder)
    status = known_status(folder, StoreInfo.load(folder).n_rows)
    return np.flatnonzero(status == RowStatus.out_of_memory)


def remaining_batches(folder: Path | str, batches: Sequence[Any]) -> list[Any]:
    """Return the batches (each of pool positions) that have a row missing, whole; then retries.

    Plan the batches over *all* positions, then ask here: a batch that was half done is computed
    again as it was, since rounding depends on what a sample is batched with. That is what makes a
    resumed store equal to an uninterrupted one byte by byte. A store not begun lacks everything.

    A row that was given up as out of memory makes a batch of its own, at the end.
    """
    if not (Path(folder) / "info.json").is_file():
        return list(batches)
    missing = set(pending(folder).tolist())
    left = [batch for batch in batches if not missing.isdisjoint(batch)]
    planned = {row for batch in batches for row in batch}
    taken = {row for batch in left for row in batch}
    again = planned.intersection(given_up(folder).tolist()) - taken
    return left + [np.array([row]) for row in sorted(again)]


def _require_same_store(folder: Path, info: StoreInfo, keys: np.ndarray) -> StoreInfo:
    """Return the description of the store that was begun in `folder`."""
    found = StoreInfo.load(folder)
    for name in ("n_rows", "dim", "dtype", "identities"):
        there, here = getattr(found, name), getattr(info, name)
        if there != here:
            raise DataError(
                f"{folder}: begun with {name} {there}, now asked for {here}. "
                "Use another folder, or delete this one."
            )
    if not np.array_equal(np.fromfile(folder / "keys.bin", KEY_DTYPE), keys):
        raise DataError(f"{folder}: begun for records with other keys. Use another folder.")
    return found


def _reserve(folder: Path, info: StoreInfo, keys: np.ndarray) -> None:
    """Make the files at full size and `info.json` last; two writers may do it at once."""
    row_bytes = RowCodec(info.dtype, info.dim).row_bytes
    sizes = {"rows": row_bytes, "norms": 4, "scales": 4, "keys": KEY_DTYPE.itemsize}
    reserve(
        folder,
        {f"{name}.bin": info.n_rows * size for name, size in sizes.items()},
        f"Free some space, choose a smaller gradients.dtype than {info.dtype} (int8, bit1) or a "
        f"smaller projection.dim than {info.dim}, or another folder.",
    )
    with (folder / "keys.bin").open("r+b") as file:
        file.write(keys.tobytes())
    info.save(folder)
