"""Which pictures of some lists are in others too: the same, or near.

The same: equal pixels, whatever the file is called and however it stores them. Near: perceptual
hashes that differ in few bits, and pixels at 16 x 16 that correlate: a copy that was scaled,
brightened, compressed again, or cut a little at its edge (of photographs cut by 2% at each edge,
six in seven). Mirror images, greyscale copies, larger cuts and other photographs of a scene are not
found.

The correlation is there for drawn pictures, of which pHash sees the layout alone: three other
letters in the same place agree in 60 bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from icons_repro.leakage.near import Pairs, near_pairs
from icons_repro.leakage.prints import LOW, Prints

DISTANCE = 6
"""Most bits of 64 in which near pictures may differ."""
LEAST_CORRELATION = 0.95
"""Of near pictures, over 16 x 16 patches and three colours."""
RULE = {"bits": LOW * LOW, "distance": DISTANCE, "correlation": LEAST_CORRELATION}
SAME = -1
"""In place of the bits in which two hashes differ: the pixels are equal."""
TOGETHER = 1 << 14
"""Pairs whose patches are in memory at once."""


@dataclass(frozen=True)
class Example:
    """One picture of the first list, and the one of the second that is nearest to it."""

    mine: int
    other: int
    bits: int
    """Of the hash that differ; `SAME`."""


@dataclass(frozen=True)
class Crossing:
    """Pictures of one list that another list has too."""

    same: int
    """With equal pixels in the other list."""
    near: int
    """With a near picture, and none of equal pixels."""
    shown: int
    """How often the first list shows these: its questions, or rows."""
    others: int
    """Pictures of the other list that are the same as, or near to, one of this."""
    examples: list[Example]
    """The most alike first."""

    def to_json(self) -> dict[str, int]:
        """Return the counts."""
        return {"same": self.same, "near": self.near, "shown": self.shown, "matched": self.others}


class _Lists:
    """Several lists of prints end to end."""

    def __init__(self, lists: Mapping[str, Prints]) -> None:
        self.lists = lists
        lengths = [len(prints) for prints in lists.values()]
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.owner = np.repeat(np.arange(len(lengths)), lengths)
        self.digests = self._joined("digests")
        self.usable = _joined([p.usable + start for p, start in self._started()])
        self.hashes = self._joined("hashes")
        self.patches = self._joined("patches")

    def _started(self) -> Iterator[tuple[Prints, int]]:
        yield from zip(self.lists.values(), self.starts.tolist(), strict=False)

    def _joined(self, name: str) -> np.ndarray:
        return _joined([getattr(prints, name) for prints in self.lists.values()])

    def slice(self, number: int) -> slice:
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)  # a pool's stay on disk


def crossings(
    mine: Mapping[str, Prints], other: Mapping[str, Prints], examples: int = 3
) -> dict[str, dict[str, Crossing]]:
    """Return for each list of `mine`, by each of `other`, what they share."""
    if not mine or not other:
        return {name: {} for name in mine}
    left, right = _Lists(mine), _Lists(other)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    touched = np.zeros((len(mine), len(right.owner)), dtype=bool)
    for i, j, bits in chain(_same(left, right), _near(left, right)):
        touched[left.owner[i], j] = True
        found = zip(i.tolist(), right.owner[j].tolist(), bits.tolist(), j.tolist(), strict=True)
        for picture, where, differing, nearest in found:
            known = best.get((picture, where))
            if known is None or (differing, nearest) < known:
                best[picture, where] = differing, nearest
    grouped: dict[tuple[int, int], list[Example]] = defaultdict(list)
    for (picture, where), (differing, nearest) in best.items():
        whose = int(left.owner[picture])
        inside = nearest - int(right.starts[where])
        example = Example(picture - int(left.starts[whose]), inside, differing)
        grouped[whose, where].append(example)
    return {
        name: {
            task: _crossing(prints, grouped[a, b], touched[a, right.slice(b)], examples)
            for b, task in enumerate(other)
        }
        for a, (name, prints) in enumerate(mine.items())
    }


def _crossing(mine: Prints, found: list[Example], touched: np.ndarray, examples: int) -> Crossing:
    same = sum(one.bits == SAME for one in found)
    return Crossing(
        same=same,
        near=len(found) - same,
        shown=int(mine.times[[one.mine for one in found]].sum()) if found else 0,
        others=int(touched.sum()),
        examples=sorted(found, key=lambda one: (one.bits, one.mine))[:examples],
    )


def _same(left: _Lists, right: _Lists) -> Iterator[Pairs]:
    """Yield the places of equal pictures."""
    order = np.argsort(right.digests, kind="stable")
    ordered = right.digests[order]
    low = np.searchsorted(ordered, left.digests, "left")
    counts = np.searchsorted(ordered, left.digests, "right") - low
    i = np.repeat(np.arange(len(left.digests)), counts)
    within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    yield i, order[low[i] + within], np.full(len(i), SAME)


def _near(left: _Lists, right: _Lists) -> Iterator[Pairs]:
    """Yield the places of near pictures, and in how many bits they differ."""
    for i, j, bits in near_pairs(left.hashes, right.hashes, DISTANCE):
        for at in range(0, len(i), TOGETHER):
            part = slice(at, at + TOGETHER)
            alike = correlation(left.patches[i[part]], right.patches[j[part]])
            close = alike >= LEAST_CORRELATION
            yield left.usable[i[part][close]], right.usable[j[part][close]], bits[part][close]


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the rows of two arrays `[n, 768]`; a constant row has none (0)."""
    x, y = first.astype(np.float32), second.astype(np.float32)
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    lengths = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), lengths, out=np.zeros(len(x)), where=lengths > 0)


def counts_of(found: Mapping[str, Mapping[str, Crossing]]) -> dict[str, dict[str, Any]]:
    """Return the counts of `crossings` as a JSON object."""
    return {
        name: {task: crossing.to_json() for task, crossing in row.items()}
        for name, row in found.items()
    }
