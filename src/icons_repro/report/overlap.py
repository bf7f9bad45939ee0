"""Which rows two selections share, and what they are made of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icons_repro.report.runs import SweepRun


@dataclass(frozen=True)
class Kept:
    """How many rows of a pool two selections keep."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def by_chance(self) -> float:
        """How many both would keep if either drew its number at random."""
        a, b = self.both + self.only_a, self.both + self.only_b
        return a * b / (self.both + self.only_a + self.only_b + self.neither)


def kept_rows(a: SweepRun, b: SweepRun) -> Kept | None:
    """Count the rows of the usable pool; None if a selection is gone."""
    mine, theirs = chosen(a), chosen(b)
    if mine is None or theirs is None:
        return None
    both = len(mine.keys() & theirs.keys())
    only_a, only_b = len(mine) - both, len(theirs) - both
    return Kept(both, only_a, only_b, a.results.n_pool - both - only_a - only_b)


def different_pools(a: SweepRun, b: SweepRun) -> str | None:
    """Say how the pools of two runs differ, by their number of rows and by the rows both keep."""
    if a.results.n_pool != b.results.n_pool:
        return f"its pool has {a.results.n_pool} rows, that of {b.name} {b.results.n_pool}"
    mine, theirs = chosen(a), chosen(b)
    if mine is None or theirs is None:
        return None
    shared = mine.keys() & theirs.keys()
    wrong = sorted(place for place in shared if mine[place] != theirs[place])
    if wrong:
        return f"row {wrong[0]} of its pool is another than that of {b.name}: not one pool"
    return None


def same_rows(a: SweepRun, b: SweepRun) -> bool:
    """Whether two runs keep the same rows; selections that are gone are told by their path."""
    return a.results.selection == b.results.selection or (
        (mine := chosen(a)) is not None and mine == chosen(b)
    )


def chosen(run: SweepRun) -> dict[int, str] | None:
    """Return the content keys of the chosen rows by position; None if the selection is gone."""
    folder = run.located(run.results.selection)
    if not (folder / "positions.npy").is_file() or not (folder / "keys.txt").is_file():
        return None
    positions = np.load(folder / "positions.npy").tolist()
    keys = (folder / "keys.txt").read_text().split()
    return dict(zip(positions, keys, strict=True))


def shares_by_source(
    pairs: Sequence[tuple[SweepRun, SweepRun]],
) -> dict[str, tuple[float, float, float]]:
    """Return each source's share of the pool, of A's rows and of B's, averaged over pairs."""
    known = [(mine, theirs) for a, b in pairs if (mine := _sources(a)) and (theirs := _sources(b))]
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for mine, theirs in known:
        columns = ((mine, "pool"), (mine, "selected"), (theirs, "selected"))
        for place, (counts, kind) in enumerate(columns):
            total = sum(entry[kind] for entry in counts.values()) or 1
            for source, entry in counts.items():
                sums[source][place] += entry[kind] / total / len(known)
    ranked = sorted(sums.items(), key=lambda item: -item[1][0])
    return {source: (pool, a, b) for source, (pool, a, b) in ranked}


def _sources(run: SweepRun) -> dict[str, dict[str, int]]:
    path: Path = run.located(run.results.selection) / "sources.json"
    found: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.is_file() else {}
    return found
