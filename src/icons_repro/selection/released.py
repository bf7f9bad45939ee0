"""A published subset file, mapped back to this pool by content."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.types import Pool
from icons_repro.selection.base import canonical_order, feature
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.sets import Choice, SetSelector


@dataclass(frozen=True)
class Released(SetSelector):
    """The rows of a published subset such as LLaVA-ICONS-133K.

    Formula: a subset row is a pool row when their content keys are equal, or else when the keys of
    their conversations and image alone are equal (the `id` may differ). Ids are never used: they
    repeat. Counted in the notes: rows matched either way, unmatched, duplicate (the subset has
    more copies than the pool) and ambiguous (the pool has more copies than the subset; the first
    free ones are taken, their content is the same). `size`: "published" takes what the file has,
    133,046 rows against 133,059 for LLaVA-ICONS-133K; "budget" draws k of them at random, or adds
    rows at random. Source: the authors' dataset xindiw/LLAVA-ICONS-133K. Complexity: O(N + M).
    Text-only rows match by their conversations.
    """

    name: ClassVar[str] = "released"
    requires: ClassVar[frozenset[str]] = frozenset({"released_keys"})

    size: Literal["published", "budget"] = "published"

    @property
    def fixed_size(self) -> bool:
        """Whether the file decides how many rows are taken."""
        return self.size == "published"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """The matched rows, cut or completed to `k` if asked for."""
        given = feature(pool, "released_keys")
        chosen, notes = match_rows(pool.keys, given["pool_text"], given["subset"], given["text"])
        if not len(chosen):
            raise DataError(
                f"none of the {len(given['subset'])} rows of the released subset is in this pool; "
                "is it the subset of another data set?"
            )
        scores = np.zeros(len(pool))
        scores[chosen] = 1.0
        if self.size == "budget":
            order = np.lexsort((uniform_by_key(pool, rng), -scores))
            notes["rows_asked_for"] = k
            notes["rows_drawn_besides"] = max(0, k - len(chosen))
            chosen = order[:k]
        return Choice(chosen, scores, notes=notes)


def match_rows(
    pool_keys: np.ndarray, pool_text: np.ndarray, subset_keys: np.ndarray, subset_text: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """Distinct pool positions of the subset's rows, and how many were found in which way.

    All arrays are dtype `S32`: content keys, and keys of conversations and image alone, of the
    pool `[N]` and of the subset `[M]` in file order. Whole rows are matched first. O(N + M) after
    sorting the pool's keys.
    """
    wanted = np.isin(pool_text, subset_text) | np.isin(pool_keys, subset_keys)
    order = canonical_order(pool_keys)
    order = order[wanted[order]]
    by_key, by_text = _queues(pool_keys, order), _queues(pool_text, order)
    found: dict[int, None] = {}
    again: list[int] = []
    for row, key in enumerate(subset_keys.tolist()):
        if not _take_first(by_key.get(key, ()), found):
            again.append(row)
    counts = {"rows": len(subset_keys), "matched_by_key": len(found)}
    duplicate = 0
    for row in again:
        key, text = subset_keys[row], subset_text[row]
        if not _take_first(by_text.get(text, ()), found):
            duplicate += text in by_text or key in by_key
    counts["matched_by_text"] = len(found) - counts["matched_by_key"]
    counts["duplicate"] = int(duplicate)
    counts["unmatched"] = len(subset_keys) - len(found) - int(duplicate)
    positions = np.fromiter(found, dtype=np.int64, count=len(found))
    _, group, copies = np.unique(pool_text[order], return_inverse=True, return_counts=True)
    taken = np.bincount(group[np.isin(order, positions)], minlength=len(copies))
    counts["ambiguous"] = int(taken[taken < copies].sum())
    return positions, counts


def _queues(keys: np.ndarray, order: np.ndarray) -> dict[bytes, deque[int]]:
    """Positions of each key, in `order`."""
    queues: dict[bytes, deque[int]] = defaultdict(deque)
    for key, position in zip(keys[order].tolist(), order.tolist(), strict=True):
        queues[key].append(position)
    return dict(queues)


def _take_first(queue: deque[int] | tuple[()], found: dict[int, None]) -> bool:
    """Move the queue's first free position to `found`; False if there is none."""
    while queue:
        position = queue.popleft()
        if position not in found:
            found[position] = None
            return True
    return False
