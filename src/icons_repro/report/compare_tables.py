"""The tables of a comparison: differences, rows kept, make-up by source."""

from __future__ import annotations

import math
from collections.abc import Iterator

from icons_repro.evaluation.intervals import Estimate, pools_needed
from icons_repro.report.cells import DASH, Cells, covered, signed, without
from icons_repro.report.compare import Comparison, Difference


def comparison_tables(found: Comparison) -> list[Cells]:
    """Return what there is to show of two methods."""
    tables = [_differences(found)]
    if found.kept:
        tables.append(_kept(found))
    if found.sources:
        tables.append(_sources(found))
    return tables


def _differences(found: Comparison) -> Cells:
    rows = [(name, *_difference_cells(d)) for name, d in found.benchmarks.items()]
    for name, difference in (("Rel. %", found.relative), ("above blind %", found.above_blind)):
        if difference:
            rows.append((name, *_difference_cells(difference)))
    return Cells(
        f"A = {found.a}, B = {found.b}, {_count(len(found.scored), 'pair')} of one pool and seed",
        ("", "A", "B", "A - B", "P(A beats B)", "p"),
        tuple(rows),
        tuple(_notes(found)),
    )


def _difference_cells(d: Difference) -> tuple[str, ...]:
    return (
        f"{d.a.value:.1f}",
        f"{d.b.value:.1f}",
        signed(d.difference),
        chance_text(d.difference),
        p_text(d.p_value),
    )


def chance_text(difference: Estimate) -> str:
    """Return "0.87", never "1.00" or "0.00": nothing here is certain."""
    if not difference.known:
        return DASH
    chance = difference.chance_above_zero
    return ">.99" if chance > 0.99 else "<.01" if chance < 0.01 else f"{chance:.2f}"


def p_text(p: float) -> str:
    """Return ".032", "<.001" or a dash."""
    if math.isnan(p):
        return DASH
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def _notes(found: Comparison) -> Iterator[str]:
    overall = found.above_blind or found.relative
    if any(found.settings):
        yield f"settings of A: {found.settings[0] or DASH}; of B: {found.settings[1] or DASH}"
    if overall:
        replicates = [pair.replicate for pair in found.scored]
        about = covered(replicates, overall.difference.shared is not None)
        yield f"± is half of the 95% interval over {about}"
        yield "p of the benchmarks by Holm's correction over them"
        yield from _over(found)
        yield _needed(overall.difference)
    elif not found.scored:
        yield "no pair has scores and answers: rows alone are compared"
    else:
        yield "no Rel.: the runs were compared with no full-data model"
    yield from without(found.unused)
    if found.left_out:
        yield f"{_count(len(found.left_out), 'run')} left out of these numbers"
        yield from (f"{name}: {reason}" for name, reason in found.left_out)


def _over(found: Comparison) -> Iterator[str]:
    if found.relative_over == found.blind_over:
        yield f"Rel. and above blind over {', '.join(found.relative_over)}"
        return
    yield f"Rel. over {', '.join(found.relative_over)}"
    if found.blind_over:
        yield f"above blind over {', '.join(found.blind_over)}"


def _needed(difference: Estimate) -> str:
    if difference.between is None:
        return "one pool and seed: how much another would differ is not known"
    pools = pools_needed(difference)
    if pools is None:
        return "no number of pools would settle a difference of this size on these test questions"
    return f"{pools} pools (or seeds) would find a difference of this size in 4 of 5 trials"


def _kept(found: Comparison) -> Cells:
    rows = tuple(
        (str(replicate), f"{k.both:,}", f"{k.by_chance:,.0f}", f"{k.only_a:,}", f"{k.only_b:,}",
         f"{k.neither:,}")
        for replicate, k in found.kept.items()
    )  # fmt: skip
    headings = ("", "both", "both by chance", "only A", "only B", "neither")
    return Cells("rows kept by", headings, rows)


def _sources(found: Comparison) -> Cells:
    rows = tuple(
        (source, *(f"{100 * share:.1f}" for share in shares))
        for source, shares in found.sources.items()
    )
    return Cells("make-up by source, % of rows", ("source", "pool", "A", "B"), rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
