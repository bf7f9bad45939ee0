"""The tiny world's counterparts of the paper's figures, as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icons_repro.evaluation.intervals import Estimate
from icons_repro.report.chart_specs import around, shared_rows
from icons_repro.report.charts import DIM, RANDOM, RUN, Spec
from icons_repro.report.lines import FULL
from icons_repro.report.lines import RANDOM as RANDOM_ROWS
from icons_repro.studies.analysis import Findings
from icons_repro.studies.drawing import METHODS
from icons_repro.studies.paper_figures.figure import Figure
from icons_repro.studies.paper_figures.shared import Shared

WIDTH = 400
MEASURES = (
    ("relative", "Rel. %, tiny world"),
    ("above_blind", "above blind, % of full data, tiny world"),
)


def curve(figure: Figure, found: Findings) -> Spec:
    """Return both measures along the axis, with bands; what has no place there is a dashed line."""
    places = {(figure.called(row), row.budget): row for row in figure.rows()}
    points, flat = [], []
    for method in found.methods:
        row = places[method.name, method.budget]
        at = figure.place(row)
        for measure, _ in MEASURES:
            told = {"series": figure.label(row), "measure": measure}
            told |= _ends(getattr(method, measure))
            points += [told | {"x": at}] if at is not None else []
            flat += [told] if at is None else []
    return {"hconcat": [_curve(figure, points, flat, *measure) for measure in MEASURES]}


def _curve(
    figure: Figure, points: Sequence[Spec], flat: Sequence[Spec], measure: str, title: str
) -> Spec:
    places = sorted({point["x"] for point in points})
    percent = figure.x == "budget" or figure.x.endswith("fraction")
    label = {"labelExpr": "round(datum.value * 1000) / 10 + '%'"} if percent else {"format": "d"}
    x = {"field": "x", "type": "quantitative", "scale": around(places, 1.15),
         "title": "share of the pool" if figure.x == "budget" else figure.x,
         "axis": {"values": places, "grid": False, **label}}  # fmt: skip
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    names = list(dict.fromkeys(told["series"] for told in [*points, *flat]))
    colour = {"field": "series", "type": "nominal", "scale": {"domain": names, "range": METHODS}}
    own = {"data": {"values": [p for p in points if p["measure"] == measure]}}
    lines = {"data": {"values": [p for p in flat if p["measure"] == measure]}}
    value = {"x": x, "y": y | {"field": "value"}, "color": colour}
    return {
        "width": WIDTH, "height": 260,
        "layer": [
            own | {"mark": {"type": "area", "opacity": 0.12},
                   "encoding": value | {"y": y | {"field": "low"}, "y2": {"field": "high"}}},
            own | {"mark": {"type": "line", "strokeWidth": 2}, "encoding": value},
            own | {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                   "encoding": value},
            lines | {"mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 2},
                     "encoding": {"y": y | {"field": "value"}, "color": colour}},
        ],
    }  # fmt: skip


def ranking(groups: Mapping[str, Findings]) -> Spec:
    """Return every method's interval and its pools as dots, a panel for each group."""
    return {
        "vconcat": [
            {"hconcat": [_panel(group, found, *measure) for measure in MEASURES]}
            for group, found in groups.items()
        ]
    }


def _panel(group: str, found: Findings, measure: str, title: str) -> Spec:
    place = [name for name, _ in MEASURES].index(measure)
    methods = sorted(found.methods, key=lambda m: -m.above_blind.value)
    rows = [{"method": m.name, **_ends(getattr(m, measure)), "random": m.name == RANDOM_ROWS}
            for m in methods]  # fmt: skip
    dots = [
        {"method": m.name, "value": pool[place]} for m in methods for pool in m.by_pool.values()
    ]
    x = {"type": "quantitative", "title": f"{group}: {title}" if group else title,
         "scale": {"zero": False}}  # fmt: skip
    y = {"field": "method", "type": "nominal", "sort": None, "title": None}
    colour = {"condition": {"test": "datum.random", "value": RANDOM}, "value": RUN}
    return {
        "width": WIDTH, "height": {"step": 24},
        "layer": [
            {"data": {"values": rows}, "mark": {"type": "rule", "strokeWidth": 2.2},
             "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y,
                          "color": colour}},
            {"data": {"values": dots}, "mark": {"type": "tick", "color": DIM, "opacity": 0.7},
             "encoding": {"x": x | {"field": "value"}, "y": y}},
            {"data": {"values": rows},
             "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
             "encoding": {"x": x | {"field": "value"}, "y": y, "color": colour}},
        ],
    }  # fmt: skip


def benchmarks(found: Findings, full: Mapping[str, float]) -> Spec:
    """Return each method's mean score on each benchmark, in percent of full data's mean."""
    cells = [
        {"a": m.name, "b": name.removeprefix("tiny_"), "share": 100 * score.value / full[name]}
        for m in found.methods
        for name, score in m.benchmarks.items()
    ]
    names = list(dict.fromkeys(str(cell["b"]) for cell in cells))
    methods = [m.name for m in sorted(found.methods, key=lambda m: -m.relative.value)]
    return _grid(cells, methods, names, "mean score in % of full data's, tiny world")


def _grid(cells: Sequence[Any], rows: Sequence[str], columns: Sequence[str], title: str) -> Spec:
    y = {"field": "a", "type": "nominal", "sort": list(rows), "title": None}
    x = {"field": "b", "type": "nominal", "sort": list(columns), "title": None,
         "axis": {"orient": "top", "labelAngle": -40, "domain": False, "ticks": False}}  # fmt: skip
    return {
        "title": {"text": title, "fontWeight": "normal"},
        "width": {"step": 52}, "height": {"step": 26}, "data": {"values": list(cells)},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "rect", "color": RUN, "stroke": "var(--paper)", "strokeWidth": 2},
             "encoding": {"opacity": {"field": "share", "type": "quantitative", "legend": None,
                                      "scale": {"zero": False, "range": [0.03, 0.6]}}}},
            {"mark": {"type": "text", "fontSize": 11},
             "encoding": {"text": {"field": "share", "type": "quantitative", "format": ".0f"}}},
        ],
    }  # fmt: skip


def overlap(shared: Sequence[Shared]) -> Spec:
    """Return the mean over pools of the rows that two choices share."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for one in shared:
        pairs.setdefault((one.a, one.b), []).append(one.percent)
    cells = [{"a": a, "b": b, "share": sum(v) / len(v)} for (a, b), v in pairs.items()]
    title = "shared rows in %, mean over pools, tiny world"
    names = list(dict.fromkeys(a for a, _ in pairs))
    return shared_rows(cells, names)(WIDTH) | {"title": {"text": title, "fontWeight": "normal"}}


def full_means(figure: Figure) -> dict[str, float]:
    """Return full data's mean score on each benchmark over pools."""
    found: dict[str, list[float]] = {}
    for row in figure.rows():
        for name, score in row.scores if row.selector == FULL else ():
            found.setdefault(name, []).append(score)
    return {name: sum(scores) / len(scores) for name, scores in found.items()}


def chart(figure: Figure, groups: Mapping[str, Findings]) -> Spec:
    """Return the chart of a figure that has scores."""
    if figure.kind == "ranking":
        return ranking(groups)
    (found,) = groups.values()
    return curve(figure, found) if figure.kind == "curve" else benchmarks(found, full_means(figure))


def _ends(estimate: Estimate) -> Spec:
    low, high = estimate.interval()
    return {"value": estimate.value} | ({"low": low, "high": high} if low == low else {})
