"""A sweep: every method at one budget over pools and seeds, and what it is compared with.

Runs share a sweep if they share the setup, the world (pool settings, base, benchmarks) and the
budget. All its means are over one fixed set of benchmarks, so that no method is measured by others
than its rivals.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icons_repro.evaluation.intervals import Estimate, holm
from icons_repro.evaluation.measured import score_draws
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN
from icons_repro.report.rows import Measurer, SweepRow
from icons_repro.report.runs import BLIND, Replicate, SweepRun, distinguishing, frozen


@dataclass(frozen=True)
class Sweep:
    """The methods at one budget in one world."""

    setup: str
    scale: str
    world: str
    """What tells this world from others of the setup; mostly empty."""
    budget: float
    rows: tuple[SweepRow, ...]
    """Best first, between full data and blind."""
    relative_over: tuple[str, ...]
    """The benchmarks of every Rel.: those that all runs and their full data could score."""
    blind_over: tuple[str, ...]
    """Those of them on which full data is clearly above blind in every pool."""
    left_out: Mapping[str, str]
    """Benchmarks outside a mean, and why."""
    notes: tuple[str, ...] = ()
    lead: Estimate | None = None
    """How far the best method is ahead of the second, paired by pool and seed."""
    runs: Mapping[str, tuple[SweepRun, ...]] = field(default_factory=dict)
    """Each method's runs, under the name of its row."""


def sweeps(runs: Sequence[SweepRun]) -> list[Sweep]:
    """Return one sweep for each world and budget, in the order in which they appear.

    Of runs that came to the same adapter, and of those with the same settings, pool and seeds, the
    last one counts, so that a repeated run narrows no interval.
    """
    distinct = {_same(run) or place: run for place, run in enumerate(runs)}
    groups: dict[tuple[Any, ...], list[SweepRun]] = defaultdict(list)
    for run in distinct.values():
        groups[(*run.world, float(run.results.budget))].append(run)
    worlds = list(dict.fromkeys(key[:3] for key in groups))
    found = []
    for key, members in groups.items():
        only_full = all(run.results.selector == FULL for run in members)
        if only_full and any(other[:3] == key[:3] and other != key for other in groups):
            continue  # the row of full data says it
        found.append(_sweep(members, _world_label(key, worlds)))
    return found


def _same(run: SweepRun) -> Hashable:
    """Return what two runs of one trained model share; None for a run without a model."""
    r = run.results
    return (run.world, r.selector, r.budget, run.replicate, r.adapter) if r.adapter else None


def _world_label(key: tuple[Any, ...], worlds: Sequence[tuple[Any, ...]]) -> str:
    rivals = [other for other in worlds if other[:2] == key[:2]]
    if len(rivals) < 2:
        return ""
    if key[2] is None:
        return "runs without a config.yaml"
    return distinguishing(key[2], [other[2] for other in rivals if other[2] is not None])


def _sweep(members: Sequence[SweepRun], world: str) -> Sweep:
    scored = [run for run in members if run.scores]
    relative_over, left_out = shared_benchmarks(scored)
    blind_over, unlearnt = clearly_above_blind(scored, relative_over)
    names = dict.fromkeys(name for run in scored for name in run.scores)
    models = (THIS_RUN, RANDOM, FULL)
    folders = [folder for run in scored for m in models if (folder := run.evaluation(m))]
    table = Measurer(relative_over, blind_over, score_draws(folders, names))
    methods = _methods(members)
    rows = _corrected([table.row(name, group) for name, group in methods.items()])
    rows.sort(key=_best_first)
    rivals = [methods[row.method] for row in rows if row.method != FULL and row.replicates]
    references, disagree = table.references(scored)
    first, last = references.pop(FULL, None), references.pop(BLIND, None)
    if RANDOM in references and not any(row.method == RANDOM for row in rows):
        rows.append(references[RANDOM])
    first_run = members[0].results
    return Sweep(
        setup=first_run.setup,
        scale=first_run.scale,
        world=world,
        budget=float(first_run.budget),
        rows=tuple(row for row in (first, *rows, last) if row),
        relative_over=relative_over,
        blind_over=blind_over,
        left_out=left_out | unlearnt,
        notes=tuple(disagree) + _unscored(members),
        lead=table.lead(rivals[0], rivals[1]) if len(rivals) > 1 else None,
        runs={name: tuple(group) for name, group in methods.items()},
    )


def _best_first(row: SweepRow) -> float:
    known = row.above_blind or row.relative
    return -known.value if known else math.inf


def _methods(members: Sequence[SweepRun]) -> dict[str, list[SweepRun]]:
    """Group runs by method, under names that tell them apart.

    Only rivals of the same name in the same sweep lend a name its settings.
    """
    groups: dict[tuple[str, Any], dict[Replicate, SweepRun]] = defaultdict(dict)
    for run in members:
        groups[run.results.selector, frozen(run.method)][run.replicate] = run
    methods: dict[str, list[SweepRun]] = {}
    for (selector, settings), runs in groups.items():
        rivals = [other for name, other in groups if name == selector]
        own = distinguishing(settings, rivals)
        methods[f"{selector}, {own}" if own else selector] = list(runs.values())
    return methods


def shared_benchmarks(scored: Sequence[SweepRun]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the benchmarks that all runs and their full data have a positive score on."""
    names = dict.fromkeys(name for run in scored for name in run.results.benchmarks)
    left_out = {}
    for name in names:
        results = [run.results.benchmarks.get(name, {}) for run in scored]
        missing = sum(result.get("status") != "ok" for result in results)
        no_full = sum(run.scores_of(FULL).get(name, 0.0) <= 0 for run in scored)
        metrics = {result.get("metric") for result in results}
        if missing:
            left_out[name] = f"{missing} of {len(scored)} runs have no score"
        elif no_full:
            left_out[name] = f"{no_full} of {len(scored)} runs have no full data to compare with"
        elif len(metrics) > 1:
            left_out[name] = f"different metrics: {', '.join(sorted(map(str, metrics)))}"
        elif any(result.get("higher_is_better") is False for result in results):
            left_out[name] = "lower is better: a ratio says nothing"
    return tuple(name for name in names if name not in left_out), left_out


def clearly_above_blind(
    scored: Sequence[SweepRun], names: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the benchmarks on which full data is two standard errors above blind everywhere."""
    if not any(run.scores_of(BLIND) for run in scored):
        return (), {}
    left_out = {}
    for name in names:
        if any(name not in run.scores_of(BLIND) for run in scored):
            left_out[name] = "above blind only: no blind baseline"
            continue
        unlearnt = {
            run.replicate
            for run in scored
            if run.scores_of(FULL)[name] - run.scores_of(BLIND)[name] <= run.margin(name)
        }
        if unlearnt:
            where = ", ".join(map(str, sorted(unlearnt)[:3]))
            left_out[name] = f"above blind only: full data is not clearly above blind ({where})"
    return tuple(name for name in names if name not in left_out), left_out


def _corrected(rows: Sequence[SweepRow]) -> list[SweepRow]:
    tests: dict[Hashable, float] = {
        row.method: row.against_random.p_value for row in rows if row.against_random
    }
    corrected = holm(tests)
    return [replace(row, p_value=corrected.get(row.method, math.nan)) for row in rows]


def _unscored(members: Sequence[SweepRun]) -> tuple[str, ...]:
    count = sum(not run.scores for run in members)
    return (f"{count} of {len(members)} runs have no scores and enter no mean",) if count else ()
