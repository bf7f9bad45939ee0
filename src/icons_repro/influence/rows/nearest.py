"""The pool rows that validation rows want most, from one pass over influence by validation row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icons_repro.influence.rows.blocks import ByRow

LOWEST = np.iinfo(np.int64).min
HELD = 2**23
"""Candidates that are held before the best of them are kept: 128 MB."""


@dataclass(frozen=True)
class Wanted:
    """Of each validation row, its best pool rows, best first."""

    rows: np.ndarray
    """Pool positions, int64 `[V, L]`; -1 behind the last usable row."""
    values: np.ndarray
    """Their influence, float32 `[V, L]`, NaN behind the last."""


def most_wanted(by_row: ByRow, keys: np.ndarray, count: int) -> Wanted:
    """Return each validation row's `count` pool rows of highest influence.

    Equal influence goes by content key, so neither the order of the file nor of the blocks matters;
    excluded rows are nobody's. One pass, O(N V) time, O(V count) memory.
    """
    n, v = by_row.shape
    count = min(count, n)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(keys, kind="stable")] = np.arange(n - 1, -1, -1)  # the first key ranks highest
    kept = _Best(v, count)
    for start, block in by_row.blocks():
        kept.add(block, rank[start : start + len(block)])
    codes = kept.sorted()
    by_rank = np.argsort(rank)
    none = codes == LOWEST
    rows = np.where(none, -1, by_rank[np.where(none, 0, codes & 0xFFFFFFFF)])
    return Wanted(rows, np.where(none, np.float32(np.nan), _floats(codes)))


def _codes(values: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return one integer for each value, ordered by influence, then by key: int64 `[m]`."""
    bits = (values + np.float32(0)).view(np.int32)  # -0 becomes 0
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    return (ordered << 32) | rank


def _floats(codes: np.ndarray) -> np.ndarray:
    bits = (codes >> 32).astype(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int32).view(np.float32)


class _Best:
    """The `count` highest codes of each validation row so far, and candidates not yet compared.

    Of a block nearly all entries are below what a row has already, and are dropped by one
    comparison of floats.
    """

    def __init__(self, v: int, count: int) -> None:
        self._top = np.full((v, count), LOWEST)
        self._lowest = np.full(v, -np.inf, dtype=np.float32)
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, block: np.ndarray, rank: np.ndarray) -> None:
        """Take influence `[b, V]`, NaN where excluded, of rows of these ranks `[b]`."""
        rows, columns = np.nonzero(block >= self._lowest)
        self._held.append((columns.astype(np.int32), _codes(block[rows, columns], rank[rows])))
        self._waiting += len(columns)
        if self._waiting > HELD:
            self._settle()

    def _settle(self) -> None:
        columns, codes = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        codes = codes[np.argsort(columns, kind="stable")]
        ends = np.cumsum(np.bincount(columns, minlength=len(self._top))).tolist()
        count = self._top.shape[1]
        for j, (low, high) in enumerate(zip([0, *ends], ends, strict=False)):
            both = np.concatenate([self._top[j], codes[low:high]])
            self._top[j] = np.partition(both, len(both) - count)[-count:]  # its lowest first
        least = self._top[:, 0]
        self._lowest = np.where(least == LOWEST, np.float32(-np.inf), _floats(least))
        self._held, self._waiting = [], 0

    def sorted(self) -> np.ndarray:
        """Return the codes `[V, count]`, highest first."""
        if self._held:
            self._settle()
        return np.sort(self._top, axis=1)[:, ::-1]


def best_of_any(by_row: ByRow) -> np.ndarray:
    """Return each pool row's highest influence on any validation row of each task: `[N, T]`.

    float64, NaN for excluded rows. One pass.
    """
    out = np.full((by_row.shape[0], len(by_row.tasks)), np.nan)
    order = np.argsort(by_row.groups, kind="stable")
    starts = np.searchsorted(by_row.groups[order], np.arange(len(by_row.tasks)))
    as_they_come = bool((np.diff(by_row.groups) >= 0).all())
    for start, block in by_row.blocks():
        own = block if as_they_come else block[:, order]
        out[start : start + len(block)] = np.maximum.reduceat(own, starts, axis=1)
    return out
