"""The charts of a sweep's page, from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icons_repro.evaluation.intervals import Estimate
from icons_repro.report import chart_specs
from icons_repro.report.chart_specs import short
from icons_repro.report.charts import HALF, Chart, chart
from icons_repro.report.lines import FULL, RANDOM
from icons_repro.report.overlap import chosen
from icons_repro.report.runs import BLIND
from icons_repro.report.sweep import Sweep
from icons_repro.report.sweep_costs import choosing_seconds

MOST_SHARED = 24
"""Methods in one grid of shared rows."""


def budget_charts(sweep: Sweep, measure: str) -> list[Chart]:
    """Return what there is to draw of one budget."""
    found = [_ranking(sweep, measure), _overlap(sweep), _cost(sweep)]
    return [one for one in found if one is not None]


def interval_of(estimate: Estimate) -> dict[str, float | None]:
    """Return value, low and high, rounded: the ends are None where they are not known."""
    low, high = estimate.interval() if estimate.known else (None, None)
    ends = {"low": low, "high": high}
    return {"value": round(estimate.value, 3)} | {
        name: None if end is None else round(end, 3) for name, end in ends.items()
    }


def _named(names: Sequence[str]) -> dict[str, str]:
    """Return names that fit beside an axis, each still another."""
    found: dict[str, str] = {}
    for name in names:
        label, count = short(name), 2
        while label in found.values():
            label, count = f"{short(name)} ({count})", count + 1
        found[name] = label
    return found


def _ranking(sweep: Sweep, measure: str) -> Chart | None:
    shown = [row for row in sweep.rows if row.method != BLIND]
    known = [(row, e) for row in shown if (e := row.estimate(measure))]
    labels = _named([row.method for row, _ in known])
    rows = [
        {"method": labels[row.method], "kind": "reference" if row.method == FULL else "method"}
        | interval_of(estimate)
        for row, estimate in known
    ]
    if len(rows) < 2:
        return None
    random = next((e.value for row, e in known if row.method == RANDOM), None)
    said = ", ".join(f"{r['method']} {r['value']:.1f}" for r in rows)
    caption = "Points with 95% intervals, best first."
    caption += " The dashed line is random data." if random is not None else ""
    return chart(
        chart_specs.ranking(rows, measure, random), f"{measure} by method: {said}", caption, HALF
    )


def forest_of(sweep: Sweep) -> Chart | None:
    """Return each method's difference to random data on every benchmark."""
    known = [row for row in sweep.rows if row.differences]
    if not known:
        return None
    labels = _named([row.method for row in known])
    names = list(dict.fromkeys(name for row in known for name in row.differences))
    rows = [
        {"method": labels[row.method], "benchmark": name, **ends, "sign": sign_of(ends)}
        for row in known
        for name, estimate in row.differences.items()
        if (ends := interval_of(estimate))
    ]
    clear = [f"{r['method']} on {r['benchmark']} {r['value']:+.1f}" for r in rows
             if r["sign"] != "open"]  # fmt: skip
    alt = "Difference to random data by benchmark; clear ones: " + (", ".join(clear) or "none")
    caption = (
        "Points of each benchmark's score above or below random data of the same pool and seed, "
        "with 95% intervals, not corrected for their number; grey ones hold zero."
    )
    return chart(chart_specs.forest(rows, names), alt, caption)


def sign_of(ends: Mapping[str, Any]) -> str:
    """Say on which side of zero an interval lies: "above", "below", or "open"."""
    if ends["low"] is None or ends["low"] <= 0 <= ends["high"]:
        return "open"
    return "above" if ends["low"] > 0 else "below"


def curve_of(group: Sequence[Sweep], measure: str) -> Chart | None:
    """Return every method over budgets; None for one budget alone."""
    rows = []
    methods = dict.fromkeys(row.method for sweep in group for row in sweep.rows)
    labels = _named([name for name in methods if name not in (FULL, BLIND)])
    for sweep in group:
        for row in sweep.rows:
            if row.method in labels and (estimate := row.estimate(measure)):
                own = {"method": labels[row.method], "budget": round(100 * sweep.budget, 4)}
                rows.append(own | interval_of(estimate))
    if len({row["budget"] for row in rows}) < 2:
        return None
    said = ", ".join(f"{r['method']} at {r['budget']:g}% {r['value']:.1f}" for r in rows)
    alt = f"{measure} by share of the pool: {said}"
    return chart(chart_specs.budget_curve(rows, measure), alt, "Bands are 95% intervals.")


def _cost(sweep: Sweep) -> Chart | None:
    """Return what choosing took against what it gained."""
    rows = []
    known = [row for row in sweep.rows if row.against_random and row.method in sweep.runs]
    labels = _named([row.method for row in known])
    for row in known:
        seconds = [choosing_seconds(run) for run in sweep.runs[row.method]]
        if row.against_random and seconds and max(seconds) > 0:
            own = {"method": labels[row.method], "seconds": round(float(np.mean(seconds)), 3)}
            rows.append(own | interval_of(row.against_random))
    if not rows:
        return None
    what = "points above random data"
    said = ", ".join(f"{r['method']} {r['seconds']:.0f} s, {r['value']:+.1f}" for r in rows)
    caption = (
        "Seconds of all steps that choosing needed, warm-up and gradients among them, as they took "
        "where they were made (CPU or GPU), whether or not another run shares them."
    )
    return chart(chart_specs.cost_and_gain(rows, what), f"Cost against gain: {said}", caption, HALF)


def _overlap(sweep: Sweep) -> Chart | None:
    """Return how many of a method's rows each other one keeps, over pools and seeds of both."""
    taken = {
        name: {run.replicate: rows for run in runs if (rows := chosen(run)) is not None}
        for name, runs in list(sweep.runs.items())[:MOST_SHARED]
        if name != FULL
    }
    taken = {name: runs for name, runs in taken.items() if runs}
    if len(taken) < 2:
        return None
    labels = _named(list(taken))
    cells = []
    for a, mine in taken.items():
        for b, theirs in taken.items():
            shares = [
                len(mine[r].keys() & theirs[r].keys()) / max(len(mine[r]), 1)
                for r in mine.keys() & theirs.keys()
            ]
            if shares:
                share = round(100 * float(np.mean(shares)), 1)
                cells.append({"a": labels[a], "b": labels[b], "share": share})
    apart = [f"{c['a']} and {c['b']} {c['share']:.0f}%" for c in cells if str(c["a"]) < str(c["b"])]
    caption = (
        "Of the rows that the method on the left keeps, the percentage that the one above keeps, "
        f"too; {100 * sweep.budget:g}% by chance."
    )
    alt = "Overlap of selections: " + ", ".join(apart)
    build = chart_specs.shared_rows(cells, list(labels.values()))
    return chart(build, alt, caption, HALF)
