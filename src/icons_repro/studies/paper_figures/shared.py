"""How many rows the choices of two runs share, as lines of `overlap.csv`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from icons_repro.report.cells import Cells
from icons_repro.report.overlap import kept_rows
from icons_repro.report.runs import SweepRun

FILE = "overlap.csv"


@dataclass(frozen=True)
class Shared:
    """Of one pool: the rows that two choices share, in percent of one's."""

    pool_seed: int
    a: str
    b: str
    percent: float
    by_chance: float
    """The same for two choices at random."""


def shared_of(named: Sequence[tuple[str, SweepRun]], pool_seed: int) -> list[Shared]:
    """Compare every two runs of one pool; a run whose selection is gone is left out."""
    found = []
    for (a, mine), (b, theirs) in product(named, named):
        if kept := kept_rows(mine, theirs):
            own = kept.both + kept.only_a
            found.append(Shared(pool_seed, a, b, 100 * kept.both / own, 100 * kept.by_chance / own))
    return found


def table(shared: Iterable[Shared], title: str) -> Cells:
    """Return the mean over pools of every pair, and what chance would give."""
    pairs: dict[tuple[str, str], list[float]] = {}
    chance, pools = [], set()
    for one in shared:
        pairs.setdefault((one.a, one.b), []).append(one.percent)
        chance.append(one.by_chance)
        pools.add(one.pool_seed)
    names = list(dict.fromkeys(a for a, _ in pairs))
    rows = tuple((a, *(f"{sum(pairs[a, b]) / len(pairs[a, b]):.0f}" for b in names)) for a in names)
    notes = (f"% of the rows, mean over {len(pools)} pools; by chance "
             f"{sum(chance) / len(chance):.0f}",)  # fmt: skip
    return Cells(title, ("choice", *names), rows, notes)
