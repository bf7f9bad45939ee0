"""Arrays addressed by row that several processes, on several hosts, fill together.

Each array is one preallocated file of fixed-size rows, written in place and never read while it is
filled (a network file system may write back whole pages that a host has read, over another host's
rows). Which rows are done is said elsewhere: every writer appends (row, status) marks to a log of
its own, and only after the rows are on disk. So whatever is marked is there, whatever is not is
computed again, and a kill at any moment costs a few seconds and changes no byte.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from icons_repro.core.errors import DataError

MARK = np.dtype([("row", "<i8"), ("status", "u1")])
MARKS = "marks"
UNMARKED = np.uint8(255)
SPARE_BYTES = 64 * 2**20
"""Disk space that must be left over when files have been reserved."""
_LIBC = ctypes.CDLL(None, use_errno=True)
"""For `fallocate`, which fails where `posix_fallocate` would write blocks itself."""


def reserve(folder: Path, sizes: Mapping[str, int], remedy: str) -> None:
    """Make files of the given sizes, in bytes; those that are there already stay as they are.

    Raises `DataError` where the disk has no room, with the numbers and `remedy`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {
        name: size
        for name, size in sizes.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size < size
    }
    free = shutil.disk_usage(folder).free
    if missing and sum(missing.values()) + SPARE_BYTES > free:
        raise DataError(
            f"{folder}: {', '.join(missing)} take {sum(missing.values()) / 1e9:.2f} GB; the disk "
            f"has {free / 1e9:.2f} GB free. {remedy}"
        )
    for name, size in missing.items():
        descriptor = os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o666)
        try:
            if size:
                _allocate(descriptor, size)
        except OSError as error:
            raise DataError(f"{folder / name}: {error.strerror}. {remedy}") from error
        finally:
            os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Give a new file its size, with its blocks where the file system can reserve them.

    Where it cannot (NFS before 4.2), `posix_fallocate` writes a byte to every block, over the
    network; there the file gets its size alone.
    """
    if hasattr(_LIBC, "fallocate"):  # Linux's
        if _LIBC.fallocate(descriptor, 0, ctypes.c_longlong(0), ctypes.c_longlong(size)) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    os.ftruncate(descriptor, size)


def marked(folder: Path, n_rows: int, before: np.ndarray | None = None) -> np.ndarray:
    """Return the status of each row that any writer has marked, uint8 `[n_rows]`, 0 elsewhere.

    Of several marks of a row, and its status `before`, the lowest counts. A mark that was cut in
    the middle is left out.
    """
    status = np.full(n_rows, UNMARKED) if before is None else np.where(before, before, UNMARKED)
    for path in sorted((folder / MARKS).glob("*.bin")):
        whole = path.stat().st_size // MARK.itemsize
        marks = np.fromfile(path, MARK, count=whole)
        np.minimum.at(status, marks["row"], marks["status"])
    return np.where(status == UNMARKED, 0, status).astype(np.uint8)


class Closing(ABC):
    """What is closed at the end of a `with` block, however that ends."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left and let go; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RowFiles(Closing):
    """One process's hand on the files of `folder`; use it in a `with` block."""

    def __init__(self, folder: Path, names: Mapping[str, tuple[int, int]], seconds: float) -> None:
        """Open the files: name to (bytes of the header, bytes of a row).

        `seconds`: how much work a kill may cost.
        """
        self.folder = folder
        self._layout = dict(names)
        self._files = {name: os.open(folder / name, os.O_WRONLY) for name in names}
        self._log: int | None = None
        self._unmarked: list[np.ndarray] = []
        self._seconds = seconds
        self._flushed = time.monotonic()

    def write(self, rows: np.ndarray, data: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Store each file's rows at `rows` `[n]`, with their status `[n]`, not 0.

        Writing the same rows again changes nothing.
        """
        if not len(rows):
            return
        for name, values in data.items():
            header, size = self._layout[name]
            raw = np.ascontiguousarray(values).reshape(len(rows), -1).view(np.uint8)
            for i, row in enumerate(rows.tolist()):
                os.pwrite(self._files[name], raw[i], header + row * size)
        marks = np.empty(len(rows), MARK)
        marks["row"], marks["status"] = rows, status
        self._unmarked.append(marks)
        if time.monotonic() - self._flushed >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Bring the rows to disk, then mark them as done."""
        self._flushed = time.monotonic()
        if not self._unmarked:
            return
        for descriptor in self._files.values():
            os.fdatasync(descriptor)
        if self._log is None:
            (self.folder / MARKS).mkdir(exist_ok=True)
            path = self.folder / MARKS / f"{uuid.uuid4().hex}.bin"
            self._log = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
        os.write(self._log, np.concatenate(self._unmarked).tobytes())
        os.fdatasync(self._log)
        self._unmarked.clear()

    def close(self) -> None:
        """Mark what was written and close the files; safe to call twice."""
        if not self._files:
            return
        self.flush()
        for descriptor in [*self._files.values(), *([] if self._log is None else [self._log])]:
            os.close(descriptor)
        self._files = {}
