"""Two methods, paired by pool and seed.

What cannot be paired is named with its reason and counted, and enters no number: runs of other
setups, pools or seeds, runs without scores or answers, two runs of one pool and seed that disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.evaluation.intervals import Estimate, holm
from icons_repro.evaluation.measured import Draws, Measured, score_draws
from icons_repro.report.lines import FULL, THIS_RUN
from icons_repro.report.overlap import Kept, kept_rows, shares_by_source
from icons_repro.report.pairing import LeftOut, Pair, has_scores, one_method, pairs_of
from icons_repro.report.rows import Measurer, mean_of
from icons_repro.report.runs import Replicate, distinguishing, frozen
from icons_repro.report.sweep import clearly_above_blind, shared_benchmarks


@dataclass(frozen=True)
class Difference:
    """One measure of both methods."""

    a: Estimate
    b: Estimate
    difference: Estimate
    """A - B, paired."""
    p_value: float
    """By Holm's correction over benchmarks where it is a benchmark's."""


@dataclass(frozen=True)
class Comparison:
    """What two methods have over each other."""

    a: str
    b: str
    pairs: tuple[Pair, ...]
    """All that chose from the same rows."""
    scored: tuple[Pair, ...]
    """Those of them with scores and answers: what the differences are over."""
    left_out: tuple[tuple[str, str], ...]
    """Runs and why they are in no number."""
    benchmarks: Mapping[str, Difference]
    relative: Difference | None
    above_blind: Difference | None
    relative_over: tuple[str, ...]
    blind_over: tuple[str, ...]
    unused: Mapping[str, str]
    """Benchmarks outside a mean, and why."""
    kept: Mapping[Replicate, Kept]
    sources: Mapping[str, tuple[float, float, float]]
    """Share of a source in the pool, in A's rows and in B's, averaged over pairs."""
    settings: tuple[str, str] = ("", "")
    """Settings in which the two differ, apart from seeds."""


def compare(a: Path, b: Path, where: Sequence[str] = ()) -> Comparison:
    """Compare the runs below `a` with those below `b`; a path may be a pattern.

    `where` holds "KEY=VALUE" that runs of both sides must have. Raises `UserError` if a side holds
    several methods, or if nothing can be paired.
    """
    left_out = LeftOut()
    sides = [one_method(path, where, left_out) for path in (a, b)]
    pairs = pairs_of(sides[0], sides[1], left_out)
    if not pairs:
        raise UserError(_nothing(a, b, left_out))
    scored = [pair for pair in pairs if has_scores(pair, left_out)]
    settings = _settings(pairs[0])
    return _measured(_labels(pairs[0]), pairs, scored, left_out, settings)


def _settings(pair: Pair) -> tuple[str, str]:
    """Name the settings that tell the methods apart; two selectors' own are left out."""
    same = pair.a.results.selector == pair.b.results.selector
    a, b = (
        frozen({k: v for k, v in run.method.items() if same or not k.startswith("selector.")})
        for run in (pair.a, pair.b)
    )
    return distinguishing(a, [b]), distinguishing(b, [a])


def _nothing(a: Path, b: Path, left_out: LeftOut) -> str:
    reasons = "\n".join(f"  {name}: {reason}" for name, reason in left_out.found)
    return f"nothing in {a} and {b} can be paired; {len(left_out.found)} runs left out:\n{reasons}"


def _labels(pair: Pair) -> tuple[str, str]:
    a, b = (f"{r.selector} at {100 * r.budget:g}%" for r in (pair.a.results, pair.b.results))
    return a, b


def _measured(
    labels: tuple[str, str],
    pairs: Sequence[Pair],
    scored: Sequence[Pair],
    left_out: LeftOut,
    settings: tuple[str, str],
) -> Comparison:
    runs = [run for pair in scored for run in (pair.a, pair.b)]
    over, unused = shared_benchmarks(runs)
    blind_over, unlearnt = clearly_above_blind(runs, over)
    models = (THIS_RUN, FULL)
    folders = [folder for run in runs for m in models if (folder := run.evaluation(m))]
    names = [
        name for name in (runs[0].scores if runs else ()) if all(name in r.scores for r in runs)
    ]
    measurer = Measurer(over, blind_over, score_draws(folders, names))
    asked_otherwise = _other_questions(scored, names, measurer.draws)
    benchmarks = {
        name: _difference(
            [(p.a.measured(THIS_RUN, measurer.draws)[name],
              p.b.measured(THIS_RUN, measurer.draws)[name]) for p in scored],
            scored,
        )
        for name in names if name not in asked_otherwise
    }  # fmt: skip
    corrected = holm({name: found.difference.p_value for name, found in benchmarks.items()})
    overall = [_overall(scored, measurer, place) for place in (0, 1)]
    return Comparison(
        *labels,
        pairs=tuple(pairs),
        scored=tuple(scored),
        left_out=tuple(left_out.found),
        benchmarks={
            name: Difference(d.a, d.b, d.difference, corrected[name])
            for name, d in benchmarks.items()
        },
        relative=overall[0],
        above_blind=overall[1],
        relative_over=over,
        blind_over=blind_over,
        unused=unused | unlearnt | asked_otherwise,
        kept={p.replicate: kept for p in pairs if (kept := kept_rows(p.a, p.b))},
        sources=shares_by_source([(p.a, p.b) for p in pairs]),
        settings=settings,
    )


def _other_questions(scored: Sequence[Pair], names: Sequence[str], draws: Draws) -> dict[str, str]:
    """Return the benchmarks on which two runs of a pair answered different questions."""
    wrong = {}
    for pair in scored:
        for name in names:
            folders = [run.evaluation() for run in (pair.a, pair.b)]
            asked = {
                d[name].questions for f in folders if f and (d := draws.get(f, {})) and name in d
            }
            if len(asked) > 1:
                wrong[name] = f"the two answered different questions ({pair.replicate})"
    return wrong


def _overall(scored: Sequence[Pair], measurer: Measurer, place: int) -> Difference | None:
    found = []
    for pair in scored:
        mine, theirs = (measurer.shares(run, THIS_RUN)[place] for run in (pair.a, pair.b))
        if mine is None or theirs is None:
            return None
        found.append((mine, theirs))
    return _difference(found, scored) if found else None


def _difference(found: Sequence[tuple[Measured, Measured]], scored: Sequence[Pair]) -> Difference:
    runs = [pair.a for pair in scored]
    a, b = (mean_of([both[side] for both in found], runs) for side in (0, 1))
    difference = mean_of([mine - theirs for mine, theirs in found], runs)
    assert a is not None
    assert b is not None
    assert difference is not None
    return Difference(a, b, difference, difference.p_value)
