"""What became of each row of a pool, and which rows a page shows where it cannot show all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from icons_repro.report.gather import Scored

MOST_ROWS = 10_000
AROUND_THE_CUT = 0.01
"""Share of the budget on either side of the cut that counts as contested, where no tie decides."""


@dataclass(frozen=True)
class Status:
    """Where each row stands; arrays over the pool `[N]`."""

    chosen: np.ndarray
    contested: np.ndarray
    """Its place hangs on the tie rule, or on the last hundredth of the budget."""
    owed: np.ndarray
    """bool `[N, T]`: left, though it is among the task's best floor(k / T) rows: a fair share."""
    order: np.ndarray | None
    """Place in the method's order, 1 = best; None where its choice follows no order."""

    @property
    def starved(self) -> np.ndarray:
        """Some task is denied a row of its fair share."""
        return np.asarray(self.owed.any(axis=1))


def status_of(found: Scored, ties: Mapping[str, Any] | None) -> Status:
    """Say of every row whether it was chosen, contested, starved."""
    order = order_of(found)
    return Status(found.chosen, _contested(found, ties, order), _owed(found), order)


def order_of(found: Scored) -> np.ndarray | None:
    """Return each row's place by score, mean rank, key and position, as the choice was made.

    None where the first k rows of that order are not the chosen ones: round robin, a floor, a
    clustering choose otherwise.
    """
    if found.score is None or not np.isfinite(found.score).any():
        return None
    columns = [np.arange(len(found.chosen)), found.keys]
    for column in (found.mean_rank, found.score):
        if column is not None:
            columns.append(-np.where(np.isfinite(column), column, -np.inf))
    ranked = np.lexsort(columns)
    k = int(found.chosen.sum())
    if not found.chosen[ranked[:k]].all():
        return None
    order = np.empty(len(ranked), dtype=np.int64)
    order[ranked] = np.arange(1, len(ranked) + 1)
    return order


def _contested(
    found: Scored, ties: Mapping[str, Any] | None, order: np.ndarray | None
) -> np.ndarray:
    if ties and found.score is not None and ties["taken_of_tied"] < ties["tied"]:
        tied: np.ndarray = found.score == ties["threshold"]
        return tied
    if order is None:
        return np.zeros(len(found.chosen), dtype=bool)
    k = int(found.chosen.sum())
    near: np.ndarray = np.abs(order - k - 0.5) < max(1, math.ceil(AROUND_THE_CUT * k))
    return near


def _owed(found: Scored) -> np.ndarray:
    """Return bool `[N, T]`: rows that were left, of each task's best floor(k / T)."""
    tasks = list(found.influence.values())
    owed = np.zeros((len(found.chosen), len(tasks)), dtype=bool)
    share = int(found.chosen.sum()) // max(len(tasks), 1)
    for t, influence in enumerate(tasks):
        values = np.where(np.isfinite(influence), influence, -np.inf)
        owed[np.argsort(-values, kind="stable")[:share], t] = True
    return owed & ~found.chosen[:, None]


@dataclass(frozen=True)
class Shown:
    """The rows that a page shows."""

    positions: np.ndarray
    """Ascending."""
    strata: tuple[tuple[str, int, int], ...]
    """Name, rows in the pool, rows shown; empty where all are shown."""


def rows_to_show(
    status: Status, elsewhere: np.ndarray, usable: np.ndarray, most: int = MOST_ROWS, seed: int = 0
) -> Shown:
    """Return all usable rows, or `most` of them drawn from strata, each alike as far as it goes.

    `elsewhere`: rows that another run took. A row is in the first stratum that fits it.
    """
    if usable.sum() <= most:
        return Shown(np.flatnonzero(usable), ())
    strata, free = [], usable.copy()
    for name, mask in (
        ("contested: at the cut", status.contested),
        ("starved: left, though in a task's fair share", status.starved),
        ("chosen", status.chosen),
        ("left here, chosen by another run", elsewhere),
        ("left", np.ones_like(usable)),
    ):
        strata.append((name, np.flatnonzero(mask & free)))
        free &= ~mask
    counts = shares([len(rows) for _, rows in strata], most)
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(rows, count, replace=False)
        for (_, rows), count in zip(strata, counts, strict=True)
    ]
    said = [(name, len(rows), c) for (name, rows), c in zip(strata, counts, strict=True) if c]
    return Shown(np.sort(np.concatenate(drawn)), tuple(said))


def shares(sizes: list[int], most: int) -> list[int]:
    """Share `most` places alike; what a small group does not need goes to the others."""
    counts = [0] * len(sizes)
    left = most
    for done, group in enumerate(sorted(range(len(sizes)), key=lambda g: sizes[g])):
        counts[group] = min(sizes[group], left // (len(sizes) - done))
        left -= counts[group]
    return counts
