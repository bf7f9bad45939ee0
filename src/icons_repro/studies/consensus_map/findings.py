"""What the map of consensus says: each rule against random rows and against the vote.

A difference is of above-blind performance, between models of one pool. At a level of a factor it is
the mean over the cells that have it, each the mean of its pools:

    D = 1/C * sum_c mean_p d_cp          SE^2 = s^2 / C^2 * sum_c 1/n_c

with s^2 pooled within cells and Student's t at sum_c (n_c - 1) degrees of freedom. So the interval
is about other pools of these cells, not about other cells.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from icons_repro.core.errors import DataError
from icons_repro.evaluation.intervals import Estimate, holm
from icons_repro.report.lines import RANDOM
from icons_repro.studies.analysis import analyse
from icons_repro.studies.consensus_map.design import LEVELS, Cell, cell_of
from icons_repro.studies.rows import Row
from icons_repro.studies.sweeps import REFERENCES

VOTE = "vote"
RULES = (VOTE, "mean", "round_robin", "vote_with_floor")
"""The rules that every cell runs, random rows apart."""
ALL = "all cells"

Values = Mapping[int, Sequence[float]]
"""Differences of each cell's pools."""


@dataclass(frozen=True)
class Level:
    """A rule minus a rival at one level of a factor."""

    rule: str
    rival: str
    factor: str
    level: float
    """NaN over all cells."""
    difference: Estimate
    p_value: float
    """By Holm's correction over all rules and levels against this rival."""


@dataclass(frozen=True)
class Trend:
    """How a rule's difference moves from one level of a factor to the next."""

    rule: str
    rival: str
    factor: str
    step: Estimate
    p_value: float
    """By Holm's correction over all rules and factors against this rival."""


@dataclass(frozen=True)
class Winner:
    """The best rule of a cell, and how far the second is behind."""

    cell: Cell
    rule: str
    second: str
    lead: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval of its lead over the second is above zero."""
        low, _ = self.lead.interval()
        return low > 0


@dataclass
class MapFindings:
    """All that is shown of the map."""

    cells: dict[int, Cell]
    above: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Above blind by cell, rule and pool."""
    levels: list[Level] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)
    winners: list[Winner] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def against(self, rule: str, rival: str, cells: Iterable[int] | None = None) -> Values:
        """Return the paired differences by cell; cells without a common pool are left out."""
        found = {}
        for cell in self.above if cells is None else cells:
            mine = self.above.get(cell, {}).get(rule, {})
            theirs = self.above.get(cell, {}).get(rival, {})
            if both := [mine[pool] - theirs[pool] for pool in mine if pool in theirs]:
                found[cell] = both
        return found


def rule_of(row: Row) -> str:
    """Return the rule of a row; a reference's name is its own."""
    return row.selector if row.selector in REFERENCES else str(json.loads(row.settings)["rule"])


def findings(rows: Sequence[Row], cells: Sequence[Cell]) -> MapFindings:
    """Compare rules cell by cell, then over the cells of each level. Raises `DataError` if none."""
    found = MapFindings({cell.cell: cell for cell in cells})
    by_cell: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_cell[cell_of(row.pool_seed)].append(replace(row, selector=rule_of(row), settings=""))
    for number, own in sorted(by_cell.items()):
        _add_cell(found, number, own)
    if not found.above:
        raise DataError("no cell has been run yet, or none learnt anything: run it first.")
    for rival in (RANDOM, VOTE):
        _add_levels(found, rival)
        _add_trends(found, rival)
    found.winners = [w for number in found.above if (w := _winner(found, number))]
    missing = [str(number) for number in found.cells if number not in found.above]
    if missing:
        found.notes.append(f"without scores: cells {', '.join(missing)}")
    return found


def _add_cell(found: MapFindings, number: int, rows: Sequence[Row]) -> None:
    if number not in found.cells:
        found.notes.append(f"cell {number} is not in the design: {len(rows)} rows")
        return
    try:
        own = analyse(rows, [])
    except DataError as error:
        found.notes.append(f"cell {number}: {error}")
        return
    found.notes += [f"cell {number}: {note}" for note in own.notes]
    found.above[number] = {
        method.name: {pool: above for pool, (_, above) in method.by_pool.items()}
        for method in own.methods
        if method.budget == found.cells[number].budget
    }


def estimate(values: Values, weights: Mapping[int, float] | None = None) -> Estimate | None:
    """Return the mean over cells, or their weighted sum; None without any.

    No error is known where no cell has two pools.
    """
    if not values:
        return None
    told = weights or {cell: 1 / len(values) for cell in values}
    means = {cell: sum(own) / len(own) for cell, own in values.items()}
    squares = sum((v - means[cell]) ** 2 for cell, own in values.items() for v in own)
    freedom = sum(len(own) - 1 for own in values.values())
    spread = sum(told[cell] ** 2 / len(own) for cell, own in values.items())
    error = math.sqrt(squares / freedom * spread) if freedom else None
    value = sum(told[cell] * mean for cell, mean in means.items())
    return Estimate(value, freedom + 1, error, None)


def _add_levels(found: MapFindings, rival: str) -> None:
    made: dict[tuple[str, str, float], Estimate] = {}
    for rule in _rules(found, rival):
        places = [(ALL, math.nan), *((f, x) for f, levels in LEVELS.items() for x in levels)]
        for factor, level in places:
            cells = [n for n in found.above if _has(found.cells[n], factor, level)]
            difference = estimate(found.against(rule, rival, cells))
            if difference is not None:
                made[rule, factor, level] = difference
    corrected = holm({key: difference.p_value for key, difference in made.items()})
    found.levels += [
        Level(rule, rival, factor, level, difference, corrected[rule, factor, level])
        for (rule, factor, level), difference in made.items()
    ]


def _has(cell: Cell, factor: str, level: float) -> bool:
    return factor == ALL or cell.level(factor) == level


def _add_trends(found: MapFindings, rival: str) -> None:
    """Fit a line through the cells' means by the place of their level, least squares."""
    made = {}
    for rule in _rules(found, rival):
        values = found.against(rule, rival)
        for factor, levels in LEVELS.items():
            x = {cell: list(levels).index(found.cells[cell].level(factor)) for cell in values}
            middle = sum(x.values()) / len(x)
            square = sum((place - middle) ** 2 for place in x.values())
            if square:
                weights = {cell: (place - middle) / square for cell, place in x.items()}
                made[rule, factor] = estimate(values, weights)
    kept = {key: step for key, step in made.items() if step is not None}
    corrected = holm({key: step.p_value for key, step in kept.items()})
    found.trends += [
        Trend(rule, rival, factor, step, corrected[rule, factor])
        for (rule, factor), step in kept.items()
    ]


def _rules(found: MapFindings, rival: str) -> list[str]:
    """Return the rules that have a pool in common with the rival, in the order of `RULES`."""
    names = [name for name in (*RULES, RANDOM) if name != rival]
    return [name for name in names if found.against(name, rival)]


def _winner(found: MapFindings, number: int) -> Winner | None:
    """Return the best rule over the pools that all rules of the cell have."""
    rules = found.above[number]
    pools = set.intersection(*(set(own) for own in rules.values()))
    if len(rules) < 2 or not pools:
        return None
    ranked = sorted(rules, key=lambda rule: -sum(rules[rule][pool] for pool in pools))
    best, second = ranked[:2]
    lead = estimate({number: [rules[best][p] - rules[second][p] for p in sorted(pools)]})
    assert lead is not None
    return Winner(found.cells[number], best, second, lead)
