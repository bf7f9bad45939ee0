"""The rows that a run's page shows, as columns for its browser."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icons_repro.core.files import read_json
from icons_repro.core.settings import RecordPolicy
from icons_repro.report.gather import Scored
from icons_repro.report.sheets import Load, Sheets, build_sheets
from icons_repro.report.strata import Shown, Status, rows_to_show, status_of

if TYPE_CHECKING:
    from icons_repro.data.records import RecordTable

BUDGET = 23_000_000
"""Bytes of rows and their pictures in one page."""
TEXT_BUDGET = 9_000_000
MOST_TEXT = 1200
"""Characters of one row's turns, less where many rows are long."""
LEAST_TEXT = 200
MOST_METHODS = 30
"""Other runs that the browser compares with: their marks are bits of one number."""
ROW_BYTES = 260
"""What the numbers and names of one row take, about."""
CHOSEN, CONTESTED, STARVED = 1, 2, 4


@dataclass(frozen=True)
class Samples:
    """What the browser shows, and what the page says about it."""

    data: Mapping[str, Any]
    shown: Shown
    rows: int
    """Usable rows of the pool."""


def samples(
    found: Scored,
    selection: Path,
    pool: Path,
    others: Mapping[str, np.ndarray],
    *,
    method: str,
    run: str,
    explained: Mapping[str, str] | None = None,
    beside: Mapping[str, Scored] | None = None,
) -> Samples:
    """Return the rows to show of a selection.

    `pool` is the pool step's folder; `others` maps the name of another run to the positions that it
    took; `run` is how commands call this one; `explained` maps a key to the page that explains it;
    `beside` holds other methods' scores, to stand beside this one's.
    """
    from icons_repro.data.records import RecordTable

    table = RecordTable(pool / "records.arrow")
    usable = table.usable
    notes = read_json(selection / "notes.json") or {}
    status = status_of(found, notes.get("ties"))
    taken = dict(list(others.items())[:MOST_METHODS])
    by = marks(taken, len(found.chosen))
    shown = rows_to_show(status, (by > 0) & ~found.chosen, usable)
    data = {
        "method": method,
        "run": shlex.quote(run),
        "others": list(taken),
        "k": int(found.chosen.sum()),
        "explained": dict(explained or {}),
    }
    data |= numbers(found, status, by, shown.positions, selection)
    data["beside"] = [
        {
            "name": name,
            "score": _rounded(other.score, shown.positions, 6),
            "votes": _rounded(other.votes, shown.positions, 0),
        }
        for name, other in (beside or {}).items()
    ]
    data |= texts(table, pool / "images", shown.positions)
    return Samples(data, shown, int(usable.sum()))


def positions_of(selection: Path) -> np.ndarray | None:
    """Return the positions that a selection took; None if it is gone."""
    path = selection / "positions.npy"
    return np.load(path) if path.is_file() else None


def marks(others: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """Return int64 `[N]`, bit m of which says that run m took the row."""
    by = np.zeros(rows, dtype=np.int64)
    for m, positions in enumerate(others.values()):
        by[positions[positions < rows]] |= 1 << m
    return by


def numbers(
    found: Scored, status: Status, by: np.ndarray, shown: np.ndarray, selection: Path
) -> dict[str, Any]:
    """Return the columns that are numbers."""
    flags = CHOSEN * status.chosen + CONTESTED * status.contested + STARVED * status.starved
    ranks = ranks_by_task(found)[shown]
    votes = task_votes(found, selection)
    return {
        "tasks": list(found.influence),
        "pos": shown.tolist(),
        "key": [key.decode() for key in found.keys[shown].tolist()],
        "flags": flags[shown].astype(int).tolist(),
        "by": by[shown].tolist(),
        "order": None if status.order is None else status.order[shown].tolist(),
        "score": _rounded(found.score, shown, 6),
        "votes": _rounded(found.votes, shown, 0),
        "mean": _rounded(found.mean_rank, shown, 4),
        "ranks": [None if r < 0 else int(r) for r in ranks.ravel()],
        "voted": None if votes is None else bits(votes[shown]),
        "owed": bits(status.owed[shown]),
    }


def bits(marked: np.ndarray) -> list[int]:
    """Return each row of bool `[n, T]` as one number; tasks past the thirtieth have no bit."""
    width = min(marked.shape[1], MOST_METHODS)
    found: list[int] = (marked[:, :width] @ (1 << np.arange(width))).astype(int).tolist()
    return found


def _rounded(column: np.ndarray | None, shown: np.ndarray, digits: int) -> list[Any] | None:
    if column is None or not np.isfinite(column).any():
        return None
    values = column[shown].astype(np.float64)
    kept = [round(v, digits) if np.isfinite(v) else None for v in values.tolist()]
    return [int(v) if v is not None and digits == 0 else v for v in kept]


def ranks_by_task(found: Scored) -> np.ndarray:
    """Return percentile ranks in thousandths, int64 `[N, T]`; -1 where a row has none."""
    from icons_repro.influence.ranks import percentile_ranks

    if not found.influence:
        return np.zeros((len(found.chosen), 0), dtype=np.int64)
    values = np.column_stack([v.astype(np.float64) for v in found.influence.values()])
    values[~np.isfinite(values).all(axis=1)] = np.nan
    ranks = percentile_ranks(values)
    return np.where(np.isnan(ranks), -1, np.round(1000 * ranks)).astype(np.int64)


def task_votes(found: Scored, selection: Path) -> np.ndarray | None:
    """Return which task votes for which row, bool `[N, T]`.

    None for a method without votes, and where what is recorded does not give its votes back.
    """
    from icons_repro.influence.consensus import thresholds

    config = (read_json(selection / "manifest.json") or {}).get("config", {}).get("selector", {})
    if found.votes is None or not found.influence:
        return None
    percentile = config.get("percentile", 80.0)
    if percentile == "budget":
        percentile = 100.0 * (1.0 - found.chosen.sum() / np.isfinite(found.votes).sum())
    values = np.column_stack([v.astype(np.float64) for v in found.influence.values()])
    values[~np.isfinite(values).all(axis=1)] = np.nan
    tau = thresholds(values, percentile)
    passed: np.ndarray = values >= tau if config.get("comparison") == ">=" else values > tau
    known = np.isfinite(found.votes)
    return passed if (passed.sum(axis=1) == found.votes)[known].all() else None


def texts(table: RecordTable, images: Path, shown: np.ndarray) -> dict[str, Any]:
    """Return the columns that are words, and the pictures."""
    rows = [table[position] for position in shown.tolist()]
    turns = [[str(turn["value"]) for turn in row.conversations] for row in rows]
    names = [row.images[0] if row.images else "" for row in rows]
    most = text_limit(turns)
    short = [shortened(one, most) for one in turns]
    distinct = sorted({row.source for row in rows})
    number = {source: n for n, source in enumerate(distinct)}
    used = sum(len(text.encode("utf-8", "replace")) for one in short for text in one)
    left = max(BUDGET - used - ROW_BYTES * len(rows), 1_000_000)
    sheets, image = sheets_of(images, tuple(names), table.policy, left)
    return {
        "turns": short,
        "cut": [int(one != whole) for one, whole in zip(short, turns, strict=True)],
        "sources": distinct,
        "source": [number[row.source] for row in rows],
        "name": names,
        "more": [max(len(row.images) - 1, 0) for row in rows],
        "image": image,
        "pictures": sheets.to_json(),
    }


def text_limit(turns: Sequence[Sequence[str]]) -> int:
    """Return how many characters of a row are shown, so that all rows fit."""
    lengths = np.array([sum(map(len, one)) for one in turns] or [0])
    limit = MOST_TEXT
    while limit > LEAST_TEXT and np.minimum(lengths, limit).sum() > TEXT_BUDGET:
        limit -= 100
    return limit


def shortened(turns: Sequence[str], most: int) -> list[str]:
    """Return the turns up to `most` characters in all."""
    kept = []
    for turn in turns:
        if most <= 0:
            break
        kept.append(turn if len(turn) <= most else turn[: most - 1] + "…")
        most -= len(turn)
    return kept


@lru_cache(maxsize=2)
def sheets_of(
    images: Path, names: tuple[str, ...], policy: RecordPolicy, budget: int
) -> tuple[Sheets, list[int]]:
    """Return the pictures of these names; one that several rows name is drawn once.

    Remembered, since the pages of a sweep mostly show the same rows.
    """
    root = os.path.realpath(images)
    distinct = list(dict.fromkeys(name for name in names if name))
    loads: list[Load | None] = [partial(picture_of, root, name, policy) for name in distinct]
    sheets, numbers = build_sheets(loads, budget)
    number = dict(zip(distinct, numbers, strict=True)) | {"": -1}
    return sheets, [number[name] for name in names]


def picture_of(root: str, name: str, policy: RecordPolicy) -> Any:
    """Open a picture under the pool's own checks. Raises `DataError`."""
    from icons_repro.core.pictures import find_picture, open_picture

    path = find_picture(root, name, policy.follow_symlinks)
    return open_picture(path, name, policy.max_image_pixels)
