"""One row of a sweep: a method, or what the methods are compared with, over pools and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from icons_repro.evaluation.intervals import Estimate, estimate
from icons_repro.evaluation.measured import Draws, Measured, share_of
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN
from icons_repro.report.runs import BLIND, Replicate, SweepRun

WHOLE = Estimate(100.0, 1, None, None)
NOTHING = Estimate(0.0, 1, None, None)


@dataclass(frozen=True)
class SweepRow:
    """One method, over pools and seeds."""

    method: str
    """The selector, with what tells it from the others of that name: "icons, rule=mean"."""
    replicates: tuple[Replicate, ...]
    relative: Estimate | None
    above_blind: Estimate | None
    against_random: Estimate | None
    """Paired difference to random data of the same pool and seed, in points of the above-blind
    performance, or of Rel. where there is no blind baseline."""
    benchmarks: Mapping[str, Estimate]
    """Scores, for benchmarks that every run of the row could score."""
    p_value: float = math.nan
    """Of the difference to random, by Holm's correction over the methods of the sweep."""
    differences: Mapping[str, Estimate] = field(default_factory=dict)
    """Paired difference of each benchmark's score to that of random data."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, once for each run."""
        return tuple(sorted(replicate.seed for replicate in self.replicates))

    def estimate(self, measure: str) -> Estimate | None:
        """Return what the row has of a measure, as tables head it."""
        return self.above_blind if measure.startswith("above") else self.relative


@dataclass(frozen=True)
class Measurer:
    """Turns runs into rows, over fixed benchmarks."""

    relative_over: tuple[str, ...]
    blind_over: tuple[str, ...]
    draws: Draws

    def row(self, method: str, runs: Sequence[SweepRun]) -> SweepRow:
        """Return the row of one method; runs without scores are left out of it."""
        scored = [run for run in runs if run.scores]
        shares = [self.shares(run, THIS_RUN) for run in scored]
        is_random = runs[0].results.selector == RANDOM
        return SweepRow(
            method=method,
            replicates=tuple(sorted(run.replicate for run in scored)),
            relative=mean_of([relative for relative, _ in shares], scored),
            above_blind=mean_of([above for _, above in shares], scored),
            against_random=None if is_random else self.against_random(scored),
            benchmarks=means_of([run.measured(THIS_RUN, self.draws) for run in scored], scored),
            differences={} if is_random else self.differences(scored),
        )

    def differences(self, scored: Sequence[SweepRun]) -> dict[str, Estimate]:
        """Return each benchmark's paired difference to random data, over the runs that have it."""
        having = [run for run in scored if run.scores_of(RANDOM)]
        found = []
        for run in having:
            mine, other = (run.measured(model, self.draws) for model in (THIS_RUN, RANDOM))
            found.append({name: mine[name] - other[name] for name in mine if name in other})
        return means_of(found, having)

    def lead(self, a: Sequence[SweepRun], b: Sequence[SweepRun]) -> Estimate | None:
        """Return how far one method is ahead of another, paired, as `against_random` measures."""
        which = 1 if self.blind_over else 0
        theirs = {run.replicate: run for run in b}
        found, runs = [], []
        for run in a:
            if partner := theirs.get(run.replicate):
                mine, other = (self.shares(one, THIS_RUN)[which] for one in (run, partner))
                if mine and other:
                    found.append(mine - other)
                    runs.append(run)
        return mean_of(found, runs)

    def shares(self, run: SweepRun, model: str) -> tuple[Measured | None, Measured | None]:
        """Return Rel. and the above-blind performance of a run, or of its random data."""
        scores = run.measured(model, self.draws)
        full = run.measured(FULL, self.draws)
        found: list[Measured | None] = []
        for names, floor in ((self.relative_over, {}), (self.blind_over, run.scores_of(BLIND))):
            known = bool(names) and all(name in scores and name in full for name in names)
            found.append(share_of(scores, full, floor, names) if known else None)
        return found[0], found[1]

    def against_random(self, scored: Sequence[SweepRun]) -> Estimate | None:
        """Return the paired difference to random data, over the runs that have it."""
        which = 1 if self.blind_over else 0
        found, runs = [], []
        for run in scored:
            mine, other = self.shares(run, THIS_RUN)[which], self.shares(run, RANDOM)[which]
            if mine and other:
                found.append(mine - other)
                runs.append(run)
        return mean_of(found, runs)

    def references(self, scored: Sequence[SweepRun]) -> tuple[dict[str, SweepRow], list[str]]:
        """Return the rows of full data, random data and blind answers, and what is wrong.

        A reference that differs between runs of one pool and seed is not shown as one.
        """
        rows, notes = {}, []
        for name in (FULL, RANDOM, BLIND):
            by_replicate: dict[Replicate, SweepRun] = {}
            having = [run for run in scored if run.scores_of(name)]
            same = all(
                by_replicate.setdefault(run.replicate, run).scores_of(name) == run.scores_of(name)
                for run in having
            )
            if not same:
                notes.append(f"{name}: runs of one pool and seed have different ones; not shown")
            elif having:
                rows[name] = self._reference(name, list(by_replicate.values()))
        return rows, notes

    def _reference(self, name: str, runs: Sequence[SweepRun]) -> SweepRow:
        shares = [self.shares(run, name) for run in runs]
        relative = mean_of([relative for relative, _ in shares], runs)
        above = mean_of([above for _, above in shares], runs)
        if name == FULL:
            relative = above = WHOLE
        elif name == BLIND:
            relative, above = None, NOTHING
        return SweepRow(
            method=name,
            replicates=tuple(sorted(run.replicate for run in runs)),
            relative=relative,
            above_blind=above if self.blind_over else None,
            against_random=None,
            benchmarks=means_of([run.measured(name, self.draws) for run in runs], runs),
        )


def mean_of(found: Sequence[Measured | None], runs: Sequence[SweepRun]) -> Estimate | None:
    """Return the mean over runs; None if one has no number."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    drawn = [one.draws for one in known if one.draws is not None]
    pools = [run.replicate.pool or run.replicate.more for run in runs]
    values = [one.value for one in known]
    return estimate(values, drawn if len(drawn) == len(known) else None, pools)


def means_of(
    scores: Sequence[Mapping[str, Measured]], runs: Sequence[SweepRun]
) -> dict[str, Estimate]:
    """Return the means of the benchmarks that every run could score."""
    names = dict.fromkeys(name for one in scores for name in one)
    means = {name: mean_of([one.get(name) for one in scores], runs) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}
