"""What the charts of the pages show, as Vega-Lite: each returns the chart for a width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icons_repro.report.charts import BAD, DIM, GOOD, RANDOM, RUN, WIDE, Spec

Interval = Mapping[str, Any]
"""method, value, low, high (None where not known), and what the chart is split by."""
LONGEST = 24
"""Characters of a name beside an axis."""
SIGNS: Spec = {
    "field": "sign", "type": "nominal", "legend": None,
    "scale": {"domain": ["above", "below", "open"], "range": [GOOD, BAD, DIM]},
}  # fmt: skip
"""The colour of a difference by the side of zero that its interval is on."""


def short(name: str) -> str:
    """Return a name that fits beside an axis."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _rule_and_point(x: Spec, y: Spec, colour: Spec) -> list[Spec]:
    """Return the layers of an interval: a rule from low to high, and a point."""
    return [
        {"mark": {"type": "rule", "strokeWidth": 2.2, "opacity": 0.55},
         "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y, "color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 62, "opacity": 1},
         "encoding": {"x": x | {"field": "value"}, "y": y, "color": colour}},
    ]  # fmt: skip


def _line_at(value: float, colour: str = DIM) -> Spec:
    return {
        "data": {"values": [{"at": value}]},
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": colour},
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
    }


def ranking(rows: Sequence[Interval], what: str, reference: float | None) -> Callable[[int], Spec]:
    """Return methods with their intervals, best first; a dashed line where random data is."""
    x = {
        "type": "quantitative", "title": what, "scale": {"zero": False, "nice": True},
        "axis": {"tickCount": 6},
    }  # fmt: skip
    y = {"field": "method", "type": "nominal", "sort": None, "title": None}
    colour = {
        "field": "kind", "type": "nominal", "legend": None,
        "scale": {"domain": ["method", "reference"], "range": [RUN, DIM]},
    }  # fmt: skip

    def build(width: int) -> Spec:
        layers = [{"data": {"values": list(rows)}, "layer": _rule_and_point(x, y, colour)}]
        if reference is not None:
            layers.insert(0, _line_at(reference, RANDOM))
        return {"width": width, "height": {"step": 24}, "layer": layers}

    return build


def differences(rows: Sequence[Interval], what: str) -> Callable[[int], Spec]:
    """Return differences with their intervals, one below the other, around zero."""
    x = {"type": "quantitative", "title": what, "axis": {"tickCount": 6}}
    y = {"field": "method", "type": "nominal", "sort": None, "title": None}

    def build(width: int) -> Spec:
        layers = [_line_at(0.0), *_rule_and_point(x, y, SIGNS)]
        return {
            "width": width,
            "height": {"step": 24},
            "data": {"values": list(rows)},
            "layer": layers,
        }

    return build


def forest(rows: Sequence[Interval], names: Sequence[str]) -> Callable[[int], Spec]:
    """Return one small plot for each benchmark: every method's difference to random data."""
    x = {"type": "quantitative", "title": None, "axis": {"tickCount": 4}}
    y = {"field": "method", "type": "nominal", "sort": None, "title": None}

    def build(width: int) -> Spec:
        columns = min(4 if width == WIDE else 2, len(names))
        return {
            "data": {"values": list(rows)},
            "facet": {"field": "benchmark", "type": "nominal", "sort": list(names), "title": None},
            "columns": columns,
            "spacing": 18,
            "spec": {
                "width": (width - 18 * (columns - 1)) // columns,
                "height": {"step": 17},
                "layer": [_line_at(0.0), *_rule_and_point(x, y, SIGNS)],
            },
        }

    return build


def around(values: Sequence[float], room: float) -> Spec:
    """Return a logarithmic scale that leaves some room beside the values, for their labels."""
    return {"type": "log", "nice": False, "domain": [min(values) / room, max(values) * room]}


def budget_curve(rows: Sequence[Interval], what: str) -> Callable[[int], Spec]:
    """Return each method over budgets, with bands; budgets are on a logarithmic axis."""
    budgets = sorted({row["budget"] for row in rows})
    axis = {"values": budgets, "labelExpr": "datum.label + '%'", "grid": False}
    x = {"field": "budget", "type": "quantitative", "axis": axis,
         "scale": around(budgets, 1.15),
         "title": "share of the pool"}  # fmt: skip
    y = {"type": "quantitative", "title": what, "scale": {"zero": False}}
    names = list(dict.fromkeys(row["method"] for row in rows))
    colour = {"field": "method", "type": "nominal", "sort": names}

    def build(width: int) -> Spec:
        legend = {"columns": 4 if width == WIDE else 2}
        own = colour | {"legend": legend}
        return {
            "width": width,
            "height": 260,
            "data": {"values": list(rows)},
            "layer": [
                {"mark": {"type": "area", "opacity": 0.13},
                 "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"},
                              "color": own}},
                {"mark": {"type": "line", "strokeWidth": 2},
                 "encoding": {"x": x, "y": y | {"field": "value"}, "color": own}},
                {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                 "encoding": {"x": x, "y": y | {"field": "value"}, "color": own}},
            ],
        }  # fmt: skip

    return build


def shared_rows(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Callable[[int], Spec]:
    """Return a grid of shares in percent: how many of a method's rows another keeps, too."""
    axis = {"labelAngle": -40, "orient": "top", "domain": False, "ticks": False}
    x = {"field": "b", "type": "nominal", "sort": list(names), "title": None, "axis": axis}
    y = {"field": "a", "type": "nominal", "sort": list(names), "title": None,
         "axis": {"domain": False, "ticks": False}}  # fmt: skip

    def build(width: int) -> Spec:
        step = max(22, min(46, width // max(len(names), 1)))
        return {
            "width": {"step": step},
            "height": {"step": 26},
            "data": {"values": list(cells)},
            "encoding": {"x": x, "y": y},
            "layer": [
                {"mark": {"type": "rect", "color": RUN, "cornerRadius": 3, "stroke": "var(--paper)",
                          "strokeWidth": 2},
                 "encoding": {"opacity": {"field": "share", "type": "quantitative", "legend": None,
                                          "scale": {"domain": [0, 100], "range": [0.04, 0.55]}}}},
                {"mark": {"type": "text", "fontSize": 11},
                 "encoding": {"text": {"field": "share", "type": "quantitative", "format": ".0f"}}},
            ],
        }  # fmt: skip

    return build


def cost_and_gain(rows: Sequence[Mapping[str, Any]], what: str) -> Callable[[int], Spec]:
    """Return each method's seconds of choosing against its gain over random data."""
    x = {
        "field": "seconds", "type": "quantitative", "title": "seconds spent on choosing",
        "scale": around([row["seconds"] for row in rows], 2.0),
        "axis": {"tickCount": 4, "format": "~s"},
    }  # fmt: skip
    y = {"type": "quantitative", "title": what}

    def build(width: int) -> Spec:
        return {
            "width": width,
            "height": 260,
            "data": {"values": list(rows)},
            "layer": [
                {"data": {"values": [{"at": 0}]},
                 "mark": {"type": "rule", "strokeDash": [4, 3], "color": RANDOM},
                 "encoding": {"y": {"field": "at", "type": "quantitative"}}},
                {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.4, "color": RUN},
                 "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}},
                {"mark": {"type": "point", "filled": True, "size": 62, "opacity": 1, "color": RUN},
                 "encoding": {"x": x, "y": y | {"field": "value"}}},
                {"mark": {"type": "text", "align": "left", "dx": 8, "dy": -7},
                 "encoding": {"x": x, "y": y | {"field": "value"},
                              "text": {"field": "method", "type": "nominal"}}},
            ],
        }  # fmt: skip

    return build
