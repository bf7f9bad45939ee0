"""Percentiles and votes of a matrix of any length, read in blocks: memory does not grow with rows.

A percentile lies between two order statistics, and these are found digit by digit. Finite floats
become unsigned integers of the same order; one pass counts, for each task, the rows by the upper 16
bits, the next, among the rows that share those of the wanted one, by the 16 bits after. So float32
takes two passes and float64 four, with one table of 65,536 counts a task (two where the two
statistics have parted), and what is found is exact: bit for bit the percentile and the votes of
`influence/consensus.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import NO_TASKS, InfluenceMatrix
from icons_repro.influence.consensus import (
    Comparison,
    Subtasks,
    check_percentile,
    merge_subtasks,
)

Blocks = Callable[[], Iterator[np.ndarray]]
"""Begins a pass: yields float32 or float64 `[n, T]`, the same in every pass, from the first row."""
BLOCK_ROWS = 2**18
LARGE = 2**22
"""Rows from which a selection takes this way, as it does for any memory map."""
DIGIT = 16


@dataclass(frozen=True)
class StreamedVote:
    """What is known of all votes when each row's has been seen once."""

    thresholds: np.ndarray
    """tau of each task, float64 `[T]`."""
    counts: np.ndarray
    """Rows with 0, 1, ... T votes, int64 `[T + 1]`."""
    excluded: int
    """Rows that hold a number that is not finite; they have no vote."""

    def cut(self, k: int) -> tuple[int, int, int]:
        """Return the fewest votes among the `k` best, the rows above, and the rows that have it.

        Raises `DataError` where fewer than `k` rows vote.
        """
        at_least = np.cumsum(self.counts[::-1])[::-1]
        if not 1 <= k <= at_least[0]:
            raise DataError(f"cannot take {k} rows: {at_least[0]} have votes")
        votes = int(np.flatnonzero(at_least >= k)[-1])
        return votes, int(at_least[votes] - self.counts[votes]), int(self.counts[votes])


def streamed_vote(
    blocks: Blocks, percentile: float = 80.0, comparison: Comparison = ">"
) -> StreamedVote:
    """Find the thresholds, then count the votes; each row's own come from `votes_of`.

    Three passes over float32. Raises `DataError` for a task without a finite value.
    """
    tau, counts, excluded = streamed_thresholds(blocks, percentile), None, 0
    for votes in votes_of(blocks, tau, comparison):
        there = ~np.isnan(votes)
        new = np.bincount(votes[there].astype(np.int64), minlength=len(tau) + 1)
        counts = new if counts is None else counts + new
        excluded += len(votes) - int(there.sum())
    found = np.zeros(len(tau) + 1, dtype=np.int64) if counts is None else counts
    return StreamedVote(tau, found, excluded)


def votes_of(
    blocks: Blocks, thresholds: np.ndarray, comparison: Comparison = ">"
) -> Iterator[np.ndarray]:
    """Yield each block's votes, float64 `[n]`; NaN for an excluded row."""
    if comparison not in (">", ">="):
        raise ConfigError(f"selector.comparison={comparison!r}: choose '>' or '>='")
    for block in blocks():
        passed = block > thresholds if comparison == ">" else block >= thresholds
        yield np.where(np.isfinite(block).all(axis=1), passed.sum(axis=1), np.nan)


def streamed_thresholds(blocks: Blocks, percentile: float) -> np.ndarray:
    """Return the `percentile`-th percentile of each task, linear: float64 `[T]`.

    Raises `DataError` where no row is usable.
    """
    check_percentile(percentile)
    found, between = _around(blocks, percentile / 100)
    return np.array([np.quantile(pair, between) for pair in found.astype(np.float64)])


def _around(blocks: Blocks, share: float) -> tuple[np.ndarray, float]:
    """Return the order statistics `[T, 2]` beside the quantile, and where between them it is."""
    search: _Search | None = None
    while search is None or search.left:
        for block in blocks():
            search = search or _Search(block.shape[1], block.dtype)
            search.count(block)
        if search is None or not search.rows:
            raise DataError(
                "no row has a finite influence on every task, so there is no percentile; look at "
                "the row status of the gradient stores and rerun stages=[extract]"
            )
        search.descend(share)
    return search.found(), search.between


class _Search:
    """The wanted order statistics of each task, known digit by digit."""

    def __init__(self, tasks: int, dtype: np.dtype) -> None:
        self._float = np.dtype(dtype)
        self._word = np.dtype(f"u{self._float.itemsize}")
        self.left = 8 * self._float.itemsize
        """Bits of each that are not known yet."""
        self._known: list[list[int]] = [[0, 0] for _ in range(tasks)]
        self._ranks: list[list[int]] = []
        self.rows = 0
        self.between = 0.0
        self._counts = self._tables()

    def _tables(self) -> list[dict[int, np.ndarray]]:
        return [{known: np.zeros(2**DIGIT, dtype=np.int64) for known in two} for two in self._known]

    def count(self, block: np.ndarray) -> None:
        """Count a block's usable rows by their next digit, among those that share the known ones.

        Raises `DataError` for a block of another type than the first.
        """
        if block.dtype != self._float or block.shape[1] != len(self._counts):
            raise DataError(f"a block of {block.dtype} {block.shape} after one of {self._float}")
        usable = np.isfinite(block).all(axis=1)
        block = block if usable.all() else block[usable]
        first = self.left == 8 * self._float.itemsize
        self.rows += len(block) if first else 0
        for task, tables in enumerate(self._counts):
            words = _in_order(block[:, task], self._word)
            upper = None if first else words >> self.left
            for known, table in tables.items():
                mine = words if upper is None else words[upper == known]
                digits = ((mine >> (self.left - DIGIT)) & (2**DIGIT - 1)).astype(np.int64)
                if len(digits) < len(table):
                    np.add.at(table, digits, 1)
                else:
                    table += np.bincount(digits, minlength=len(table))

    def descend(self, share: float) -> None:
        """Read off the next digit of each."""
        if not self._ranks:
            place = (self.rows - 1) * share
            low = int(np.floor(place))
            self.between = place - low
            self._ranks = [[low, min(low + 1, self.rows - 1)] for _ in self._known]
        self.left -= DIGIT
        for task, tables in enumerate(self._counts):
            for i, known in enumerate(self._known[task]):
                below = np.cumsum(tables[known])
                digit = int(np.searchsorted(below, self._ranks[task][i], side="right"))
                self._ranks[task][i] -= int(below[digit - 1]) if digit else 0
                self._known[task][i] = (known << DIGIT) | digit
        self._counts = self._tables()

    def found(self) -> np.ndarray:
        """Return what is known in full, `[T, 2]`."""
        words = np.array(self._known, dtype=self._word)
        top = self._word.type(1 << (8 * self._float.itemsize - 1))
        return np.where(words & top, words ^ top, ~words).view(self._float)


def _in_order(values: np.ndarray, word: np.dtype) -> np.ndarray:
    """Return unsigned integers in the order of finite floats `[n]`; -0 and 0 are one."""
    raw = (np.ascontiguousarray(values) + values.dtype.type(0)).view(word)
    top = word.type(1 << (8 * word.itemsize - 1))
    return np.where(raw & top, ~raw, raw | top)


def array_blocks(
    values: np.ndarray, rows: int = BLOCK_ROWS, columns: Sequence[int] | None = None
) -> Blocks:
    """Return the blocks of an array or memory map `[N, T]`, of some of its columns if given."""

    def begin() -> Iterator[np.ndarray]:
        for start in range(0, len(values), rows):
            block = np.asarray(values[start : start + rows])
            yield block if columns is None else block[:, columns]

    return begin


def file_blocks(path: Path, rows: int = BLOCK_ROWS) -> tuple[Blocks, tuple[str, ...]]:
    """Return the blocks of an `influence.parquet`, which is never read whole, and its tasks."""
    names = pq.read_schema(path).names
    tasks = tuple(name for name in names if name not in NO_TASKS)

    def begin() -> Iterator[np.ndarray]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows, columns=list(tasks)):
                yield np.column_stack([batch[task].to_numpy() for task in tasks])

    return begin, tasks


def merged_blocks(
    blocks: Blocks, tasks: Sequence[str], how: Subtasks
) -> tuple[Blocks, tuple[str, ...]]:
    """Return the blocks with sub-tasks as `merge_subtasks` reduces them, and their tasks."""
    _, names = merge_subtasks(np.zeros((0, len(tasks))), tasks, how)
    if names == tuple(tasks):
        return blocks, names

    def begin() -> Iterator[np.ndarray]:
        for block in blocks():
            # a maximum is one of its numbers; a mean is taken in float64, as in memory
            own = np.array(block, dtype=block.dtype if how == "max" else np.float64)
            own[~np.isfinite(own).all(axis=1)] = np.nan
            yield merge_subtasks(own, tasks, how)[0]

    return begin, names


def matrix_votes(
    matrix: InfluenceMatrix,
    columns: Sequence[str],
    how: Subtasks,
    percentile: float,
    comparison: Comparison,
) -> np.ndarray:
    """Return every row's votes, float64 `[N]`, by the matrix's columns `TASK` or `TASK/SUBTASK`."""
    places = [matrix.tasks.index(name) for name in columns]
    blocks = array_blocks(matrix.values, columns=places)
    merged, _ = merged_blocks(blocks, columns, how)
    thresholds = streamed_thresholds(merged, percentile)
    return np.concatenate(list(votes_of(merged, thresholds, comparison)))
