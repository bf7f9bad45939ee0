"""What a study's rows say: every method over pools, and against the others, paired by pool.

    Rel.(%)     = 100 * mean_b(score_b / full_b)
    above blind = 100 * mean_b((score_b - blind_b) / (full_b - blind_b))

A pool is one observation: its runs of several seeds are averaged first. Each pool has its own test
questions, so the spread between pools holds their sampling error too, and the interval is Student's
t over pools.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from icons_repro.core.errors import DataError
from icons_repro.evaluation.intervals import Estimate, estimate, holm, pools_needed
from icons_repro.report.lines import FULL
from icons_repro.report.runs import BLIND, distinguishing, frozen
from icons_repro.studies.rows import Row

Place = tuple[str, int]
"""A pool and a seed."""


@dataclass(frozen=True)
class Method:
    """One method in one regime."""

    name: str
    regime: str
    budget: float
    by_pool: Mapping[str, tuple[float, float]]
    """Rel. and above blind of each pool, means over its seeds."""
    apart: Mapping[str, Mapping[str, float]]
    """Above blind of each pool on each benchmark."""
    relative: Estimate
    above_blind: Estimate
    benchmarks: Mapping[str, Estimate]


@dataclass(frozen=True)
class Paired:
    """Above blind of one method minus another's, over the pools of both."""

    a: str
    b: str
    regime: str
    budget: float
    difference: Estimate
    p_value: float
    """By Holm's correction over all methods that are compared with `b` at this budget and length
    of training."""
    needed: int | None
    """How many pools would find a difference of this size in 4 of 5 trials; None: it cannot be told
    or no number would."""
    apart: Mapping[str, Estimate]
    """The difference on each benchmark alone."""
    without: Mapping[str, Estimate]
    """The difference with one benchmark left out of the mean: does it stand on one alone?"""


@dataclass
class Findings:
    """All that is shown of a study."""

    methods: list[Method] = field(default_factory=list)
    pairs: list[Paired] = field(default_factory=list)
    pools: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    """The benchmarks of every mean: full data is above blind in the mean over pools, p < .05."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""


def analyse(rows: Sequence[Row], against: Sequence[str]) -> Findings:
    """Compare every method with those named in `against`, above blind, paired by pool.

    Rows of another world than the last, rows that disagree, and methods without full data or blind
    scores on a pool are left out and named. Raises `DataError` if nothing is left.
    """
    found = Findings()
    kept = _agreeing(_one_world(rows, found.notes), found.notes)
    full = {_place(row): dict(row.scores) for row in kept if row.selector == FULL}
    blind = {_place(row): dict(row.scores) for row in kept if row.selector == BLIND}
    places = [place for place in full if place in blind]
    if not places:
        raise DataError("no pool has scores of full data and of blind answers.")
    found.pools = tuple(dict.fromkeys(pool for pool, _ in places))
    found.over = _learnt(full, blind, places, found.notes)
    groups: dict[tuple[str, float, str], list[Row]] = defaultdict(list)
    names = _names(kept)
    for row in kept:
        if row.selector in (FULL, BLIND):
            continue
        if _place(row) not in places:
            found.notes.append(f"{_called(row)}: no full data or blind scores on its pool")
        else:
            groups[names[row.selector, row.settings], row.budget, row.regime].append(row)
    for (name, budget, regime), members in groups.items():
        shares = _shares(members, full, blind, found)
        if shares:
            found.methods.append(_method(name, budget, regime, members, shares))
    found.methods.sort(key=lambda m: (m.regime, m.budget, -m.above_blind.value))
    found.pairs = [pair for rival in against for pair in _against(found.methods, rival)]
    found.notes += _missing(found)
    return found


def _one_world(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Keep the world with most rows; the others are counted."""
    worlds = Counter(row.world for row in rows)
    if not worlds:
        raise DataError("the study has no rows yet: run it first.")
    (main, _), *others = worlds.most_common()
    for world, count in others:
        notes.append(f"{count} rows of another world, base or recipe ({world}, not {main})")
    return [row for row in rows if row.world == main]


def _agreeing(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    groups: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.key].append(row)
    for group in groups.values():
        if len({row.scores for row in group}) > 1:
            notes.append(f"{_called(group[0])}: {len(group)} runs of one pool and seed disagree")
    return [g[0] for g in groups.values() if len({row.scores for row in g}) == 1]


def _learnt(
    full: Mapping[Place, Mapping[str, float]],
    blind: Mapping[Place, Mapping[str, float]],
    places: Sequence[Place],
    notes: list[str],
) -> tuple[str, ...]:
    pools = [pool for pool, _ in places]
    learnt = []
    for name in dict.fromkeys(name for place in places for name in full[place]):
        if not all(name in full[p] and name in blind[p] for p in places):
            notes.append(f"{name}: not scored on every pool")
            continue
        above = estimate([full[p][name] - blind[p][name] for p in places], None, pools)
        if above.value > 0 and (not above.known or above.p_value < 0.05):
            learnt.append(name)
        else:
            notes.append(f"{name}: full data is not clearly above blind")
    if not learnt:
        raise DataError("full data is above blind on no benchmark: there is nothing to compare.")
    return tuple(learnt)


def _shares(
    members: Iterable[Row],
    full: Mapping[Place, Mapping[str, float]],
    blind: Mapping[Place, Mapping[str, float]],
    found: Findings,
) -> dict[str, tuple[float, dict[str, float]]]:
    """Return Rel. of each pool, and above blind on each benchmark, means over its seeds."""
    values: dict[str, list[tuple[float, list[float]]]] = defaultdict(list)
    for row in members:
        scores, whole, floor = dict(row.scores), full[_place(row)], blind[_place(row)]
        if missing := [name for name in found.over if name not in scores]:
            found.notes.append(f"{_called(row)}: no score on {', '.join(missing)}")
            continue
        relative = 100 * _mean([scores[n] / whole[n] for n in found.over])
        above = [100 * (scores[n] - floor[n]) / (whole[n] - floor[n]) for n in found.over]
        values[row.pool].append((relative, above))
    return {
        pool: (
            _mean([relative for relative, _ in each]),
            {n: _mean([above[i] for _, above in each]) for i, n in enumerate(found.over)},
        )
        for pool, each in values.items()
    }


def _method(
    name: str,
    budget: float,
    regime: str,
    members: Sequence[Row],
    shares: Mapping[str, tuple[float, Mapping[str, float]]],
) -> Method:
    kept = [row for row in members if row.pool in shares]
    pools = [row.pool for row in kept]
    benchmarks = dict.fromkeys(n for row in kept for n, _ in row.scores)
    scores = [dict(row.scores) for row in kept]
    by_pool = {pool: (rel, _mean([*above.values()])) for pool, (rel, above) in shares.items()}
    return Method(
        name, regime, budget, by_pool,
        apart={pool: above for pool, (_, above) in shares.items()},
        relative=estimate([relative for relative, _ in by_pool.values()]),
        above_blind=estimate([above for _, above in by_pool.values()]),
        benchmarks={
            n: estimate([one[n] for one in scores], None, pools)
            for n in benchmarks if all(n in one for one in scores)
        },
    )  # fmt: skip


def _against(methods: Sequence[Method], rival: str) -> list[Paired]:
    pairs: list[Paired] = []
    for theirs in (m for m in methods if m.name == rival):
        at = (theirs.regime, theirs.budget)
        beside = [m for m in methods if (m.regime, m.budget) == at and m is not theirs]
        found = {
            mine.name: (mine, _difference(mine, theirs))
            for mine in beside
            if mine.by_pool.keys() & theirs.by_pool.keys()
        }
        corrected = holm({name: difference.p_value for name, (_, difference) in found.items()})
        for name, (mine, d) in found.items():
            over = list(next(iter(mine.apart.values())))
            pairs.append(
                Paired(
                    name, rival, *at, d, corrected[name], pools_needed(d),
                    apart={n: _difference(mine, theirs, [n]) for n in over},
                    without={
                        n: _difference(mine, theirs, [m for m in over if m != n])
                        for n in over if len(over) > 1
                    },
                )
            )  # fmt: skip
    return pairs


def _difference(mine: Method, theirs: Method, over: Sequence[str] | None = None) -> Estimate:
    """Return above blind of one method minus another's, on some benchmarks or on all."""
    return estimate(
        [
            _mean([mine.apart[pool][n] - theirs.apart[pool][n] for n in over or mine.apart[pool]])
            for pool in mine.by_pool
            if pool in theirs.by_pool
        ]
    )


def _missing(found: Findings) -> list[str]:
    """Name the methods that lack pools that others have."""
    return [
        f"{m.name}, {m.regime}: on {len(m.by_pool)} of {len(found.pools)} pools"
        for m in found.methods
        if len(m.by_pool) < len(found.pools)
    ]


def _names(rows: Iterable[Row]) -> dict[tuple[str, str], str]:
    """Name every method; settings are told where two share a selector."""
    kinds = dict.fromkeys((row.selector, row.settings) for row in rows)
    names = {}
    for selector, settings in kinds:
        rivals = [_settings(s) for other, s in kinds if other == selector and s]
        told = distinguishing(_settings(settings), rivals) if len(rivals) > 1 and settings else ""
        names[selector, settings] = f"{selector}, {told}" if told else selector
    return names


def _settings(text: str) -> frozenset[tuple[str, str]]:
    return frozen(json.loads(text)) if text else frozenset()


def _place(row: Row) -> Place:
    return row.pool, row.seed


def _called(row: Row) -> str:
    return f"{row.selector} at {row.budget:g} on pool {row.pool_seed}, seed {row.seed}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
