"""One pass over a store: rows [N, d] times vectors [d, T], in constant memory, on all cores.

Each worker thread takes the next block, reads it into a buffer of its own, converts it to float32 a
slice at a time (a slice stays in the cache) and multiplies. Reading releases the
interpreter, so while one worker waits for the disk the others compute; the kernel is asked for the
blocks ahead. `readinto` buffers, unlike a memory map, do not count the whole file as memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from icons_repro.core.errors import DataError
from icons_repro.gradients.store import GradientStore

SLICE_BYTES = 5 * 2**19
"""Float32 bytes converted and multiplied at once: large enough for the product to run at speed,
small enough to stay in the cache (128 rows of 5120; 2.9 us a row for 10 tasks, measured)."""
AHEAD = 4
"""Blocks that the kernel is asked to read ahead of each worker."""


@dataclass(frozen=True)
class _Block:
    """A run of rows inside one file."""

    file: int
    """File descriptor."""
    offset: int
    """First byte."""
    row: int
    """First row of the store."""
    n_rows: int


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread: small operations only wait for each other, and workers are many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def multiply(
    store: GradientStore, vectors: torch.Tensor, *, threads: int = 2, block_rows: int = 256
) -> np.ndarray:
    """Return the inner products of all normalised rows with all vectors.

    Args:
        store: N rows of length d.
        vectors: float32 `[T, d]`.
        threads: worker threads.
        block_rows: rows of one read.

    Returns:
        float32 `[N, T]`; accumulated in float32.

    Raises:
        DataError: the vectors have another length, or a file ends early.
    """
    if vectors.shape[1] != store.info.dim:
        raise DataError(
            f"{store.folder}: rows of length {store.info.dim}, vectors of {vectors.shape[1]}"
        )
    out = torch.zeros(len(vectors), len(store))
    file = os.open(store.folder / "rows.bin", os.O_RDONLY)
    try:
        pass_ = _Pass(store, vectors, out, iter(_plan(store, file, block_rows)), block_rows)
        with one_torch_thread():
            pass_.run(threads)
    finally:
        os.close(file)
    return (out.numpy() * store.scales).T


def _plan(store: GradientStore, file: int, block_rows: int) -> list[_Block]:
    size, n = store.codec.row_bytes, len(store)
    return [
        _Block(file, low * size, low, min(block_rows, n - low)) for low in range(0, n, block_rows)
    ]


class _Pass:
    """The shared state of the workers of one pass."""

    def __init__(
        self,
        store: GradientStore,
        vectors: torch.Tensor,
        out: torch.Tensor,
        blocks: Iterator[_Block],
        block_rows: int,
    ) -> None:
        self._store = store
        self._codec = store.codec
        self._vectors = vectors.contiguous()
        self._out = out
        self._blocks = blocks
        self._block_rows = block_rows
        self._slice = max(1, SLICE_BYTES // (4 * store.info.dim))
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []

    def run(self, threads: int) -> None:
        """Run the workers; raise the first error of any."""
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        torch.set_num_threads(1)  # each worker is one core's worth
        room = -(-self._block_rows // self._slice) * self._slice
        buffer = torch.zeros(room, self._codec.row_bytes, dtype=torch.uint8)
        floats = torch.empty(self._slice, self._codec.dim)
        try:
            while (block := self._next()) is not None:
                self._read(block, buffer)
                self._multiply(block, buffer, floats)
        except BaseException as error:  # handed to the caller's thread by `run`
            self._errors.append(error)

    def _next(self) -> _Block | None:
        with self._lock:
            return None if self._errors else next(self._blocks, None)

    def _read(self, block: _Block, buffer: torch.Tensor) -> None:
        size = block.n_rows * self._codec.row_bytes
        ahead = block.offset + size
        if hasattr(os, "posix_fadvise"):  # Linux's
            os.posix_fadvise(block.file, ahead, AHEAD * size, os.POSIX_FADV_WILLNEED)
        view = buffer.numpy().data.cast("B")[:size]
        done = 0
        while done < size:
            n = os.preadv(block.file, [view[done:]], block.offset + done)
            if n == 0:
                raise DataError(f"{self._store.folder}: rows.bin ends before row {block.row}")
            done += n

    def _multiply(self, block: _Block, buffer: torch.Tensor, floats: torch.Tensor) -> None:
        """Multiply slices of one fixed size, whatever is left over in the last one.

        The same shape is the same order of additions, so a row's score has the same bits wherever
        the row stands: permuted rows or shards cannot change a selection.
        """
        for low in range(0, block.n_rows, self._slice):
            rows = self._codec.decode(buffer[low : low + self._slice], floats)
            n = min(self._slice, block.n_rows - low)
            first = block.row + low
            self._out[:, first : first + n] = torch.mm(self._vectors, rows.T)[:, :n]
