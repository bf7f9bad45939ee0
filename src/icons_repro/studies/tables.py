"""A study's findings as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from icons_repro.evaluation.intervals import Estimate
from icons_repro.report.cells import DASH, Cells, signed
from icons_repro.report.compare_tables import chance_text, p_text
from icons_repro.studies.analysis import Findings, Method, Paired


def tables(found: Findings) -> list[Cells]:
    """Return, for each budget and length of training, the methods and the paired differences."""
    regimes = list(dict.fromkeys((m.regime, m.budget) for m in found.methods))
    made = []
    for regime, budget in regimes:
        count = f"{len(found.pools)} pool{'' if len(found.pools) == 1 else 's'}"
        title = f"{regime}, {100 * budget:g}% of the pool, {count}"
        methods = [m for m in found.methods if (m.regime, m.budget) == (regime, budget)]
        made.append(_methods(title, methods, found.over))
        pairs = [p for p in found.pairs if (p.regime, p.budget) == (regime, budget)]
        for rival in dict.fromkeys(p.b for p in pairs):
            made += _pairs(title, rival, [p for p in pairs if p.b == rival])
        made.append(_benchmarks(title, methods))
    return made


def _methods(title: str, methods: Sequence[Method], over: Sequence[str]) -> Cells:
    rows = tuple(
        (m.name, str(len(m.by_pool)), _value(m.relative), _value(m.above_blind)) for m in methods
    )
    notes = ("± is half of the 95% interval over pools (Student's t)", f"over {', '.join(over)}")
    return Cells(title, ("method", "pools", "Rel. %", "above blind %"), rows, notes)


def _pairs(title: str, rival: str, pairs: Sequence[Paired]) -> list[Cells]:
    """Return the differences, then the same on each benchmark and with each left out."""
    rows = tuple(
        (p.a, signed(p.difference), chance_text(p.difference), p_text(p.p_value),
         str(p.needed) if p.needed else DASH)
        for p in pairs
    )  # fmt: skip
    notes = (
        "above blind, paired by pool; p by Holm's correction over the rows of this table",
        "pools needed: to find a difference of this size in 4 of 5 trials",
    )
    headings = ("method", f"minus {rival}", "P(better)", "p", "pools needed")
    names = list(dict.fromkeys(name for p in pairs for name in p.apart))
    heads = ("method", *(name.removeprefix("tiny_") for name in names))
    alone = ("* the 95% interval leaves out zero; not corrected for how many there are",)
    least = ("a difference that changes sign stands on one benchmark", *alone)
    title = f"{title}: against {rival}"
    return [
        Cells(title, headings, rows, notes),
        Cells(f"{title}, on each benchmark", heads,
              tuple((p.a, *(_marked(p.apart[n]) for n in names)) for p in pairs), alone),
        Cells(f"{title}, over all but one", heads,
              tuple((p.a, *(_marked(p.without[n]) for n in names)) for p in pairs if p.without),
              least),
    ]  # fmt: skip


def _benchmarks(title: str, methods: Sequence[Method]) -> Cells:
    names = list(dict.fromkeys(name for m in methods for name in m.benchmarks))
    rows = tuple((m.name, *(_mean(m.benchmarks.get(name)) for name in names)) for m in methods)
    headings = ("method", *(name.removeprefix("tiny_") for name in names))
    return Cells(f"{title}: mean scores", headings, rows)


def _marked(found: Estimate) -> str:
    low, high = found.interval()
    return f"{found.value:+.0f}{'*' if low > 0 or high < 0 else ''}"


def _value(found: Estimate) -> str:
    low, high = found.interval()
    half = "" if math.isnan(low) else f" ± {(high - low) / 2:.1f}"
    return f"{found.value:.1f}{half}"


def _mean(found: Estimate | None) -> str:
    return f"{found.value:.1f}" if found else DASH
