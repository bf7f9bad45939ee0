"""Influence by validation row, `[N, V]`, a block of pool rows at a time and never whole.

At the paper's size it has 665,298 x 6,604 entries, 17.6 GB. Every rule that needs it (round robin
over validation rows, doubly greedy, transport, neighbours) can do with one pass over the pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.machine import cores
from icons_repro.influence.stream import one_torch_thread

BLOCK_FLOATS = 2**22
"""Numbers of the wider of a block's input and output: 16 MB of float32."""
ALIGNED = 64

T = TypeVar("T")
R = TypeVar("R")


class Term(Protocol):
    """One source of influence: N pool rows against V validation rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""

    @property
    def width(self) -> int:
        """Numbers that are read for one pool row."""

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return float32 `[n, V]` for ascending positions `[n]`; NaN where a row has none.

        A row's bits do not depend on what else is asked for.
        """

    def keep(self, columns: np.ndarray) -> Term:
        """Return the term of some validation rows."""


@dataclass(frozen=True)
class Given:
    """Influence that is there as an array or a memory map."""

    values: np.ndarray
    """float `[N, V]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def width(self) -> int:
        """V."""
        return self.values.shape[1]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `Term.rows`."""
        return np.asarray(self.values[positions], dtype=np.float32)

    def keep(self, columns: np.ndarray) -> Given:
        """See `Term.keep`."""
        return Given(self.values[:, columns])


@dataclass(frozen=True)
class Products:
    """Inner products of read rows with vectors that are held."""

    read: Callable[[np.ndarray], np.ndarray]
    """float32 `[n, d]` of ascending positions `[n]`; NaN where a row has none."""
    n_rows: int
    vectors: np.ndarray
    """float32 `[V, d]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""
        return self.n_rows, len(self.vectors)

    @property
    def width(self) -> int:
        """d."""
        return self.vectors.shape[1]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `Term.rows`. Always `ALIGNED` columns at once, so that sums are in one order."""
        n = len(positions)
        room = np.zeros((-(-n // ALIGNED) * ALIGNED, self.width), dtype=np.float32)
        room[:n] = self.read(positions)
        vectors, out = torch.from_numpy(self.vectors), torch.empty(len(room), len(self.vectors))
        for low in range(0, len(room), ALIGNED):
            part = torch.from_numpy(room[low : low + ALIGNED])
            out[low : low + ALIGNED] = torch.mm(vectors, part.T).T
        return out.numpy()[:n]

    def keep(self, columns: np.ndarray) -> Products:
        """See `Term.keep`."""
        return replace(self, vectors=np.ascontiguousarray(self.vectors[columns]))


@dataclass(frozen=True)
class ByRow:
    """Influence of N pool rows on V validation rows, and whose each validation row is."""

    tasks: tuple[str, ...]
    """`TASK` or `TASK/SUBTASK`, each once."""
    groups: np.ndarray
    """Index into `tasks` of each validation row: int64 `[V]`."""
    terms: tuple[tuple[float, Term], ...]
    """Weighted terms that are added (one for each checkpoint)."""
    positions: np.ndarray
    """Which rows of the terms, ascending: int64 `[N]`."""

    def __post_init__(self) -> None:
        if any(term.shape[1] != len(self.groups) for _, term in self.terms) or not self.terms:
            shapes = [term.shape for _, term in self.terms]
            raise DataError(f"influence terms {shapes} for {len(self.groups)} validation rows")

    @classmethod
    def of(cls, values: np.ndarray, tasks: Sequence[str], groups: np.ndarray) -> ByRow:
        """Wrap an array `[N, V]`."""
        terms = ((1.0, Given(values)),)
        return cls(tuple(tasks), np.asarray(groups), terms, np.arange(len(values)))

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""
        return len(self.positions), len(self.groups)

    @property
    def block_rows(self) -> int:
        """Pool rows in one block; depends on V and on the rows' width alone."""
        widest = max(len(self.groups), *(term.width for _, term in self.terms))
        return max(1, BLOCK_FLOATS // widest // ALIGNED) * ALIGNED

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, float32 `[b, V]`) from the first row to the last.

        A row with any entry that is not finite is all NaN: it is excluded, as from `[N, T]`.
        """
        starts = range(0, len(self.positions), self.block_rows)
        yield from in_order(lambda start: (start, self._block(start)), starts)

    def _block(self, start: int) -> np.ndarray:
        positions = self.positions[start : start + self.block_rows]
        with np.errstate(invalid="ignore", over="ignore"):
            parts = [np.float32(weight) * term.rows(positions) for weight, term in self.terms]
            block = sum(parts[1:], parts[0])
        block[~np.isfinite(block).all(axis=1)] = np.nan
        return block

    def whole(self) -> np.ndarray:
        """Return all of it, float32 `[N, V]`; for small N x V."""
        return np.concatenate([block for _, block in self.blocks()])

    def of_tasks(self, tasks: Sequence[str] | None, leave_out: Sequence[str] = ()) -> ByRow:
        """Return the validation rows of `tasks`, sub-tasks merged into their tasks.

        None is all tasks. Raises `ConfigError` for a task that is not there.
        """
        parents = [task.split("/", 1)[0] for task in self.tasks]
        names = list(dict.fromkeys(parents))
        missing = [task for task in tasks or () if task not in (*names, *self.tasks)]
        if missing:
            raise ConfigError(f"selector.tasks names {missing[0]!r}, which has no validation rows.")
        wanted = [
            (tasks is None or task in tasks or parent in tasks) and task not in leave_out
            for task, parent in zip(self.tasks, parents, strict=True)
        ]
        kept = np.flatnonzero(np.array(wanted)[self.groups])
        merged = np.array([names.index(parent) for parent in parents])
        return self._columns(kept, names, merged[self.groups[kept]])

    def first_rows(self, count: int | None) -> ByRow:
        """Return at most `count` validation rows of each task: the first."""
        if count is None:
            return self
        kept = np.concatenate(
            [np.flatnonzero(self.groups == group)[:count] for group in range(len(self.tasks))]
        )
        kept.sort()
        return self._columns(kept, self.tasks, self.groups[kept])

    def _columns(self, kept: np.ndarray, names: Sequence[str], groups: np.ndarray) -> ByRow:
        present = np.unique(groups)
        terms = self.terms
        if len(kept) < len(self.groups):
            terms = tuple((weight, term.keep(kept)) for weight, term in terms)
        tasks = tuple(names[group] for group in present)
        return ByRow(tasks, np.searchsorted(present, groups), terms, self.positions)


def in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `function(item)` in order, computed by all cores, each with one torch thread.

    At most two items a core are under way.
    """
    count = cores()
    pending: deque[Future[R]] = deque()
    one_thread: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with one_torch_thread(), ThreadPoolExecutor(count, **one_thread) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
