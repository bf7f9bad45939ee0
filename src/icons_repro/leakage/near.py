"""All pairs of 64-bit hashes within a Hamming distance, exactly, without looking at every pair.

By the pigeonhole principle, hashes that differ in at most k bits agree in one of k + 1 bands of
bits. So each band sorts both lists into buckets, and only what shares a bucket is compared: of
665,298 x 30,000 random hashes, one pair in 74 (`benchmarks/leakage.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

BITS = 64
MOST = 1 << 21
"""Pairs compared at once."""

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places in the first list, places in the second, and in how many bits they differ."""


def near_pairs(first: np.ndarray, second: np.ndarray, distance: int) -> Iterator[Pairs]:
    """Yield each pair of uint64 hashes that differ in at most `distance` bits, once, in blocks."""
    bands = _bands(distance + 1)
    for number, band in enumerate(bands):
        for i, j in _same_bucket(_key(first, band), _key(second, band)):
            differing = first[i][:, None] ^ second[j]
            rows, columns = np.nonzero(np.bitwise_count(differing) <= distance)
            found = differing[rows, columns]
            new = np.ones(len(found), dtype=bool)
            for earlier in bands[:number]:  # which has yielded what agrees there
                new &= _key(found, earlier) != 0
            if new.any():
                bits = np.bitwise_count(found[new]).astype(np.int64)
                yield i[rows[new]], j[columns[new]], bits


def _bands(count: int) -> list[tuple[np.uint64, np.uint64]]:
    """Return shift and mask of each band; they part the bits among them."""
    edges = np.linspace(0, BITS, count + 1).round().astype(int).tolist()
    return [(np.uint64(low), np.uint64((1 << (high - low)) - 1)) for low, high in pairwise(edges)]


def _key(hashes: np.ndarray, band: tuple[np.uint64, np.uint64]) -> np.ndarray:
    shift, mask = band
    return (hashes >> shift) & mask


def _same_bucket(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places in `first` and `second` that all have one key, at most `MOST` pairs."""
    if not len(first) or not len(second):
        return
    order, other = (np.argsort(keys, kind="stable") for keys in (first, second))
    keys, starts = np.unique(first[order], return_index=True)
    ends = np.append(starts[1:], len(first))
    low = np.searchsorted(second[other], keys, "left")
    high = np.searchsorted(second[other], keys, "right")
    held = np.flatnonzero(high > low)
    for start, end, left, right in np.stack([starts, ends, low, high], axis=1)[held].tolist():
        for here in range(left, right, MOST):
            there = min(right, here + MOST)
            step = max(1, MOST // (there - here))
            for at in range(start, end, step):
                yield order[at : min(end, at + step)], other[here:there]
