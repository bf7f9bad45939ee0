"""Feature rows read in a stated order, a block at a time, and threads that keep that order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import faiss
import numpy as np
from threadpoolctl import ThreadpoolController

from icons_repro.core.machine import cores

BLOCK_FLOATS = 2**22
"""Numbers in one block: 16 MB of float32."""

_CONTROLLER = ThreadpoolController()
"""Knows the BLAS and OpenMP libraries of faiss and numpy; finding them takes milliseconds."""

T = TypeVar("T")
R = TypeVar("R")


class Array2D(Protocol):
    """What is read of a feature array: a NumPy array, a memory map, or a class below."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, d)`."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by a slice or by an array of positions: `[m, d]`."""


@dataclass(frozen=True)
class SideBySide:
    """Several arrays of N rows read as one wide one, without a copy of the whole."""

    parts: Sequence[np.ndarray]
    shown: Sequence[np.ndarray | None]
    """Of each part, bool `[N]`: rows where it is not shown read as zeros. None shows all."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, sum of the parts' widths)`."""
        return len(self), sum(part.shape[1] for part in self.parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by a slice or by an array of positions: float32 `[m, d]`."""
        read = [
            part[rows] if shown is None else np.where(shown[rows][:, None], part[rows], 0)
            for part, shown in zip(self.parts, self.shown, strict=True)
        ]
        return np.concatenate(read, axis=1, dtype=np.float32)


@dataclass(frozen=True)
class Picked:
    """Some rows of an array read as an array of their own, without a copy of them all."""

    array: np.ndarray
    positions: np.ndarray
    """Which rows: int64 `[n]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, d)`."""
        return (len(self.positions), *self.array.shape[1:])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by a slice or by an array of positions, in the array's dtype: `[m, d]`."""
        return self.array[self.positions[rows]]


@dataclass(frozen=True)
class FeatureRows:
    """Some rows of a feature array, in a stated order, read as float32 a block at a time."""

    array: Array2D
    """`[N, d]`, any float dtype; may be a memory map."""
    order: np.ndarray
    """Which rows, in which order: int64 `[n]`."""
    unit: bool = False
    """Divide each row by its L2 norm (a zero row stays zero)."""

    def __len__(self) -> int:
        return len(self.order)

    @property
    def dim(self) -> int:
        """d."""
        return int(self.array.shape[1])

    @property
    def block_size(self) -> int:
        """Rows in one block; depends on d alone."""
        return max(32, min(16384, BLOCK_FLOATS // max(self.dim, 1)))

    def gather(self, indices: np.ndarray | slice) -> np.ndarray:
        """Rows at these places of `order`: float32 `[m, d]`."""
        rows = np.ascontiguousarray(self.array[self.order[indices]], dtype=np.float32)
        return unit_rows(rows) if self.unit else rows

    def slices(self) -> Iterator[slice]:
        """Yield the places of each block, from the first row to the last."""
        for start in range(0, len(self), self.block_size):
            yield slice(start, min(start + self.block_size, len(self)))

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first place, float32 `[b, d]`) from the first row to the last."""
        for places in self.slices():
            yield places.start, self.gather(places)

    def sample(self, count: int, rng: np.random.Generator) -> FeatureRows:
        """`count` of these rows at random, in their order."""
        places = np.sort(rng.choice(len(self), count, replace=False))
        return FeatureRows(self.array, self.order[places], self.unit)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm; zero rows stay zero. `[m, d]`."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return rows / np.where(norms > 0, norms, 1).astype(rows.dtype)[:, None]


def finite_rows(array: Array2D) -> np.ndarray:
    """Whether every number of the row is finite: bool `[N]`. One pass in blocks, by all cores."""
    size = max(32, BLOCK_FLOATS // max(array.shape[1], 1))
    starts = range(0, len(array), size)
    parts = ordered_map(lambda s: np.isfinite(array[s : s + size]).all(axis=1), starts)
    return np.concatenate([np.zeros(0, dtype=bool), *parts])


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], threads: int | None = None
) -> Iterator[R]:
    """Yield `function(item)` in order, computed by several threads, each with one-threaded BLAS.

    At most two items a thread are in flight, so items may be big. None uses every core.
    """
    count = threads or cores()
    pending: deque[Future[R]] = deque()
    with (
        one_threaded_blas(),
        ThreadPoolExecutor(count, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
    ):
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def one_threaded_blas() -> Any:
    """A context in which BLAS and OpenMP use one thread, so that they round the same way."""
    return _CONTROLLER.limit(limits=1)
