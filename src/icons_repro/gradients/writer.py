"""Writing a gradient store so that a kill at any moment costs a few seconds and changes no byte."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from icons_repro.core.errors import DataError
from icons_repro.core.types import KEY_DTYPE
from icons_repro.gradients.rows import RowCodec
from icons_repro.gradients.store import RowStatus, StoreInfo, status_counts

SPARE_BYTES = 64 * 2**20
"""Disk space that must be left over when a store has been reserved."""


class StoreWriter:
    """Writes rows by position; made or resumed by `open_writer`, used in a `with` block.

    Data go to disk before the row is marked done, and marks are written at most every
    `flush_seconds`: whatever is marked is there, whatever is not is computed again. Rows that an
    earlier run gave up as out of memory are pending again, for one more try.
    """

    def __init__(self, folder: Path, info: StoreInfo, flush_seconds: float = 5.0) -> None:
        self.folder = folder
        self.info = info
        self.codec = RowCodec(info.dtype, info.dim)
        self._files = {
            name: os.open(folder / f"{name}.bin", os.O_RDWR)
            for name in ("rows", "norms", "scales", "status")
        }
        self._status = np.fromfile(folder / "status.bin", np.uint8)
        self._again = self._status == RowStatus.out_of_memory
        self._status[self._again] = RowStatus.pending
        self._unmarked: list[int] = []
        self._flush_seconds = flush_seconds
        self._flushed = time.monotonic()

    def write(
        self,
        positions: Sequence[int] | np.ndarray,
        rows: torch.Tensor,
        norms: torch.Tensor,
        status: Sequence[int] | np.ndarray,
    ) -> None:
        """Write rows; writing the same ones again changes nothing.

        Args:
            positions: pool positions `[n]`.
            rows: float32 `[n, dim]`, normalised; zeros where `status` is not ok.
            norms: lengths before normalising `[n]`.
            status: `RowStatus` of each row `[n]`.

        Raises:
            DataError: a position is not one of this store's.
        """
        index = np.asarray(positions, dtype=np.int64) - self.info.start
        if len(index) and (index.min() < 0 or index.max() >= self.info.n_rows):
            raise DataError(f"{self.folder}: no row for a position among {list(positions)[:5]}...")
        data, scales = self.codec.encode(rows)
        lengths = norms.detach().to("cpu", torch.float32).numpy()
        for i, row in enumerate(index.tolist()):
            os.pwrite(self._files["rows"], data[i], row * self.codec.row_bytes)
            os.pwrite(self._files["norms"], lengths[i].tobytes(), row * 4)
            os.pwrite(self._files["scales"], scales[i].tobytes(), row * 4)
        self._status[index] = np.asarray(status, dtype=np.uint8)
        self._unmarked += index.tolist()
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def exclude(self, positions: Sequence[int] | np.ndarray, reason: RowStatus) -> None:
        """Record rows that will hold no gradient, and why."""
        n = len(positions)
        self.write(positions, torch.zeros(n, self.info.dim), torch.zeros(n), [int(reason)] * n)

    def flush(self) -> None:
        """Bring the data to disk, then mark the rows as done."""
        for name in ("rows", "norms", "scales"):
            os.fdatasync(self._files[name])
        for row in self._unmarked:
            os.pwrite(self._files["status"], self._status[row : row + 1].tobytes(), row)
        os.fdatasync(self._files["status"])
        self._unmarked.clear()
        self._flushed = time.monotonic()

    def pending(self) -> np.ndarray:
        """Return the pool positions without a row, int64, ascending."""
        return np.flatnonzero(self._status == RowStatus.pending) + self.info.start

    def lacks(self, positions: np.ndarray) -> bool:
        """Say whether any of these pool positions is without a row."""
        return bool((self._status[positions - self.info.start] == RowStatus.pending).any())

    def close(self) -> None:
        """Mark what was written; when no row is pending, note the counts in `info.json`."""
        if not self._files:
            return
        self.flush()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}
        untried = self._again & (self._status == RowStatus.pending)
        self._status[untried] = RowStatus.out_of_memory
        if not len(self.pending()):
            self.info = replace(self.info, rows=status_counts(self._status))
            self.info.save(self.folder)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_writer(
    folder: Path | str,
    *,
    n_rows: int,
    dim: int,
    dtype: str = "float16",
    identities: Mapping[str, Any],
    keys: Sequence[str] | np.ndarray | None = None,
    start: int = 0,
    total: int | None = None,
    flush_seconds: float = 5.0,
    made_with: Mapping[str, Any] | None = None,
) -> StoreWriter:
    """Reserve a store, or take up one that was begun with the same description.

    Args:
        folder: where; made if need be.
        n_rows: rows of this store.
        dim: length of a row.
        dtype: `float32`, `float16`, `bfloat16`, `int8` or `bit1`.
        identities: what the rows depend on; at least `model`, `adapter`, `projector`, `feature`
            where scoring is to check them.
        keys: content keys of the rows `[n_rows]`; row numbers where the data have none.
        start: pool position of the first row (a shard's).
        total: rows of the whole pool, for a shard.
        flush_seconds: how much work a kill may cost.
        made_with: see `StoreInfo.made_with`; a store taken up keeps its own.

    Raises:
        DataError: the disk is too small, or the folder holds a store of another description.
    """
    folder = Path(folder)
    whole = n_rows if total is None else total
    info = StoreInfo(
        n_rows, dim, dtype, dict(identities), start, whole, made_with=dict(made_with or {})
    )
    if keys is None:
        keys = [f"row-{i}" for i in range(start, start + n_rows)]
    wanted = np.asarray(keys).astype(KEY_DTYPE)
    if len(wanted) != n_rows:
        raise DataError(f"{folder}: {len(wanted)} keys for {n_rows} rows")
    if (folder / "info.json").is_file():
        info = _require_same_store(folder, info, wanted)
    else:
        _reserve(folder, info, wanted)
    return StoreWriter(folder, info, flush_seconds)


def pending(folder: Path | str) -> np.ndarray:
    """Return the pool positions that a begun store still lacks, int64, ascending."""
    return _positions(Path(folder), RowStatus.pending)


def _positions(folder: Path, status: RowStatus) -> np.ndarray:
    found = np.fromfile(folder / "status.bin", np.uint8)
    return np.flatnonzero(found == status) + StoreInfo.load(folder).start


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
    given_up = _positions(Path(folder), RowStatus.out_of_memory)
    again = planned.intersection(given_up.tolist()) - taken
    return left + [np.array([row]) for row in sorted(again)]


def _require_same_store(folder: Path, info: StoreInfo, keys: np.ndarray) -> StoreInfo:
    """Return the description of the store that was begun in `folder`."""
    found = StoreInfo.load(folder)
    for name in ("n_rows", "dim", "dtype", "start", "total", "identities"):
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
    """Check for room, then make the files at full size and `info.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    row_bytes = RowCodec(info.dtype, info.dim).row_bytes
    sizes = {"rows": row_bytes, "norms": 4, "scales": 4, "status": 1}
    needed = info.n_rows * (sum(sizes.values()) + KEY_DTYPE.itemsize)
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise DataError(
            f"{folder}: {info.n_rows} rows of {info.dim} x {info.dtype} take "
            f"{needed / 1e9:.2f} GB; the disk has {free / 1e9:.2f} GB free. Free some space, "
            "choose a smaller gradients.dtype (int8, bit1) or projector.dim, or another folder."
        )
    for name, size in sizes.items():
        with open(folder / f"{name}.bin", "wb") as file:
            if info.n_rows:
                os.posix_fallocate(file.fileno(), 0, info.n_rows * size)
    keys.tofile(folder / "keys.bin")
    info.save(folder)
