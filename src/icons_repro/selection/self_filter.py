"""Self-Filter: hard rows first, with a penalty for looking like one already taken."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.types import Pool
from icons_repro.features.neighbours import Index, neighbour_index
from icons_repro.features.rows import FeatureRows, ordered_map
from icons_repro.selection.base import feature
from icons_repro.selection.self_sup import joint_clip
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool


@dataclass(frozen=True)
class SelfFilter(SetSelector):
    """Stage 2 of Self-Filter over the difficulties that stage 1 learned.

    Formula: difficulty d = -w of the score net (the artifact `self_filter`); repeatedly take the
    highest d_i, then for its 10 nearest rows not taken yet d_j -= gamma d_i cos^2. Neighbours are
    found in CLIP's image + text embedding. Direction: high. Source: RayRuiboChen/Self-Filter,
    self_filter/stage2.py:131-184: the penalty takes the row's difficulty as it stands when it is
    taken, and a negative one raises its neighbours, as there. Differences: the original embeds
    `USER: ... ASSISTANT: ...` by CLIP ViT-L/14 and takes 25,000 of LLaVA-158K; here CLIP is the
    run's, its text has no role names, and equal difficulties go by content key. Complexity:
    O(k N d) time when exact, O(N d) memory. A text-only row has a zero image half; rows with a
    non-finite difficulty or embedding come last.
    """

    name: ClassVar[str] = "self_filter"
    requires: ClassVar[frozenset[str]] = frozenset({"self_filter", "clip"})

    gamma: float = 1.0
    neighbours: int = 10
    index: str = "Flat"
    """faiss's name of the index; "Flat" is exact."""
    probes: int = 1

    @property
    def uses_device(self) -> bool:
        """Whether the search is exact; faiss's other kinds of index work on the CPU."""
        return self.index == "Flat"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Pick greedily; the neighbours of a row are searched when it may be taken soon."""
        difficulty = np.asarray(feature(pool, "self_filter")["difficulty"], dtype=np.float64)
        if difficulty.shape != (len(pool),):
            raise DataError(f"self_filter: {difficulty.shape} difficulties for {len(pool)} rows")
        usable = np.isfinite(difficulty)
        rows = canonical_rows(pool, joint_clip(pool), "clip", unit=True, usable=usable)
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        index = neighbour_index(rows, self.index, True, self.probes, rng, pool.device)
        start = difficulty[rows.order]
        near = _FreeNeighbours(rows, index, self.neighbours, np.argsort(-start, kind="stable"))
        picked = self._pick(start.tolist(), near, min(k, len(rows)))
        turn = np.full(len(rows), np.nan)
        turn[picked] = np.arange(len(picked))
        return Choice(rows.order[picked], difficulty, {"pick_order": over_pool(pool, rows, turn)})

    def _pick(self, current: list[float], near: _FreeNeighbours, k: int) -> list[int]:
        heap = [(-d, i) for i, d in enumerate(current)]
        heapq.heapify(heap)
        picked: list[int] = []
        while len(picked) < k:
            negative, i = heapq.heappop(heap)
            if near.taken[i] or -negative != current[i]:
                continue
            near.taken[i] = True
            picked.append(i)
            for j, cosine in near.of(i):
                current[j] -= self.gamma * current[i] * cosine * cosine
                heapq.heappush(heap, (-current[j], j))
        return picked


@dataclass
class _FreeNeighbours:
    """The nearest rows not taken yet. Searches many rows at once, ahead of need."""

    rows: FeatureRows
    index: Index
    count: int
    likely: np.ndarray
    """Places in the order in which they will probably be asked for."""
    found: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    cursor: int = 0

    def __post_init__(self) -> None:
        self.taken = np.zeros(len(self.rows), dtype=bool)
        self.asked = np.zeros(len(self.rows), dtype=bool)

    def of(self, i: int) -> list[tuple[int, float]]:
        """(place, cosine) of the `count` nearest free rows of `i`, or of all that are left."""
        if i not in self.found:
            self._search_ahead(i)
        places, cosines = self.found.pop(i)
        width = len(places)
        while True:
            free = np.flatnonzero((places >= 0) & (places != i) & ~self.taken[places])
            if len(free) >= self.count or width >= len(self.rows):
                best = free[: self.count]
                return list(zip(places[best].tolist(), cosines[best].tolist(), strict=True))
            width = min(4 * width, len(self.rows))
            cosines, places = (
                found[0] for found in self.index.search(self.rows.gather(slice(i, i + 1)), width)
            )

    def _search_ahead(self, i: int) -> None:
        """Search `i` and the rows likely to follow it: a few hundred share one matrix product."""
        self.asked[i] = True
        chunk = [i]
        while len(chunk) < 512 and self.cursor < len(self.likely):
            j = int(self.likely[self.cursor])
            self.cursor += 1
            if not (self.asked[j] or self.taken[j]):
                self.asked[j] = True
                chunk.append(j)
        parts = np.array_split(np.array(chunk), max(1, len(chunk) // 64))
        width = min(4 * self.count + 1, len(self.rows))
        for asked, cosines, places in self._search(parts, width):
            for row, where, values in zip(asked.tolist(), places, cosines, strict=True):
                self.found[row] = (where, values)

    def _search(
        self, parts: list[np.ndarray], width: int
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return list(
            ordered_map(lambda p: (p, *self.index.search(self.rows.gather(p), width)), parts)
        )
