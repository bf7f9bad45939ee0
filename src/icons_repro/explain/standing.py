"""Where a row stands among all others: for every task, and for the method that chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json
from icons_repro.report.gather import Scored, scored
from icons_repro.report.samples import task_votes
from icons_repro.report.strata import Status, status_of

PLACE = "row:"
"""Before a row's place in the pool, where that is given in place of its key."""
NEAR_THE_CUT = 4
"""Rows that are named on the other side of the cut."""


@dataclass(frozen=True)
class TaskStanding:
    """What one task says of the row."""

    task: str
    influence: float
    place: int
    """1 = the most influential row of the pool; rows of equal influence share the best place."""
    votes: bool | None
    """None where the method counts no votes."""
    denied: bool
    """The row was left, though it is in the task's fair share."""


@dataclass(frozen=True)
class Standing:
    """Where one row stands."""

    position: int
    key: str
    twins: tuple[int, ...]
    """Places of other rows with the same content."""
    chosen: bool
    contested: bool
    score: float | None
    votes: int | None
    order: int | None
    """Place in the method's order; None where it chooses by none."""
    budget: int
    """Rows that are chosen."""
    ranked: int
    """Rows that have a score."""
    tasks: tuple[TaskStanding, ...]
    across: tuple[int, ...]
    """Nearest rows on the other side of the cut, nearest first: for a row that was left those that
    were taken last and would go first, for one that was taken those that come next."""
    cut_score: float | None
    """Score of the last row taken."""

    @property
    def distance(self) -> str:
        """Say how far the row is from the cut, and what would have to happen."""
        if self.order is None:
            return "The method chooses by no single order of rows: there is no distance to a cut."
        here = f"Place {self.order:,} of {self.ranked:,}, cut after {self.budget:,}: "
        if self.chosen:
            spare = self.budget - self.order
            return here + (
                f"with {spare:,} rows less in the budget, or as many more before it, it would "
                "still be taken."
            )
        before = self.order - self.budget - 1
        many = f"{before + 1:,} of the rows before it would have to go"
        go = many if before else "the last row that was taken would have to go"
        return here + (
            f"{before:,} other rows that were left come first. To take it by the same rule, {go}, "
            f"or the budget would have to grow by {before + 1:,}."
        )


def standing(selection: Path, wanted: str) -> Standing:
    """Find a row by its key, the beginning of one, or `row:PLACE`, and say where it stands.

    Raises `UserError` if there is no such row, or several.
    """
    if not (selection / "scores.parquet").is_file():
        raise UserError(f"{selection} has no scores.parquet: the run's selection is gone.")
    found = scored(selection)
    position, twins = find_row(found.keys, wanted)
    notes = read_json(selection / "notes.json") or {}
    status = status_of(found, notes.get("ties"))
    return Standing(
        position=position,
        key=found.keys[position].decode(),
        twins=twins,
        chosen=bool(status.chosen[position]),
        contested=bool(status.contested[position]),
        score=_number(found.score, position),
        votes=None if (v := _number(found.votes, position)) is None else int(v),
        order=None if status.order is None else int(status.order[position]),
        budget=int(found.chosen.sum()),
        ranked=len(found.chosen) if found.score is None else int(np.isfinite(found.score).sum()),
        tasks=_tasks(found, status, task_votes(found, selection), position),
        across=_across(status, position),
        cut_score=_cut_score(found, status),
    )


def find_row(keys: np.ndarray, wanted: str) -> tuple[int, tuple[int, ...]]:
    """Return a row's place, and those of its twins. Raises `UserError`."""
    if wanted.startswith(PLACE):
        number = wanted.removeprefix(PLACE)
        if not number.isdecimal() or int(number) >= len(keys):
            raise UserError(f"{wanted}: the pool has rows {PLACE}0 to {PLACE}{len(keys) - 1}.")
        places = np.flatnonzero(keys == keys[int(number)])
        return int(number), tuple(int(p) for p in places if p != int(number))
    if not wanted.isascii() or not wanted:
        raise UserError(f"{wanted!r} is no key: keys are 32 hexadecimal digits, see keys.txt.")
    places = np.flatnonzero(np.char.startswith(keys, wanted.lower().encode()))
    distinct = np.unique(keys[places])
    if len(distinct) == 0:
        raise UserError(
            f"no row of the pool has a key that begins with {wanted!r}. Give a key of keys.txt or "
            f"of the page, or a place in the pool such as {PLACE}17."
        )
    if len(distinct) > 1:
        named = ", ".join(key.decode() for key in distinct[:3])
        raise UserError(f"{len(distinct)} rows have keys that begin with {wanted!r}: {named}, ...")
    return int(places[0]), tuple(int(p) for p in places[1:])


def _number(column: np.ndarray | None, position: int) -> float | None:
    if column is None or not np.isfinite(column[position]):
        return None
    return float(column[position])


def _tasks(
    found: Scored, status: Status, votes: np.ndarray | None, position: int
) -> tuple[TaskStanding, ...]:
    standings = []
    for t, (task, influence) in enumerate(found.influence.items()):
        own = float(influence[position])
        standings.append(
            TaskStanding(
                task=task,
                influence=own,
                place=int(np.count_nonzero(influence > own)) + 1,
                votes=None if votes is None else bool(votes[position, t]),
                denied=bool(status.owed[position, t]),
            )
        )
    return tuple(standings)


def _across(status: Status, position: int) -> tuple[int, ...]:
    if status.order is None:
        return ()
    k = int(status.chosen.sum())
    if status.chosen[position]:
        wanted: Sequence[int] = range(k + 1, k + 1 + NEAR_THE_CUT)
    else:
        wanted = range(k, k - NEAR_THE_CUT, -1)
    places = {int(status.order[p]): int(p) for p in np.flatnonzero(np.isin(status.order, wanted))}
    return tuple(places[place] for place in wanted if place in places)


def _cut_score(found: Scored, status: Status) -> float | None:
    if status.order is None or found.score is None:
        return None
    last = np.flatnonzero(status.order == int(status.chosen.sum()))
    return _number(found.score, int(last[0])) if len(last) else None
