"""The map of consensus as one chart: level by level, cell by cell, and who wins where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from icons_repro.report.charts import DIM, Spec
from icons_repro.report.lines import RANDOM
from icons_repro.studies.consensus_map.design import LEVELS, Cell
from icons_repro.studies.consensus_map.findings import RULES, VOTE, MapFindings, estimate
from icons_repro.studies.drawing import COLOURS, METHODS

STEP = 46
TITLES = {
    "target_share": "serves the targets", "mislabelled_share": "of that mislabelled",
    "tasks": "target tasks", "overlap": "overlap of tasks", "budget": "budget",
}  # fmt: skip
PLANES = (("budget", "target_share"), ("tasks", "overlap"))
"""Factors across and upwards of the maps."""
NAMES = [*RULES, RANDOM]


def chart(found: MapFindings) -> Spec:
    """Return the levels against both rivals, the cells as heatmaps, and the winners."""
    heat = [_heatmaps(found, rival, *PLANES[0]) for rival in (RANDOM, VOTE)]
    return {
        "vconcat": [
            _levels(found, RANDOM),
            _levels(found, VOTE),
            *heat,
            {"hconcat": [_winners(found, *plane) for plane in PLANES]},
        ],
        "resolve": {"scale": {"color": "independent"}},
    }


def level_text(factor: str, level: float) -> str:
    """Return a level as axes and tables show it."""
    return f"{level:g}" if factor == "tasks" else f"{100 * level:g}%"


def _levels(found: MapFindings, rival: str) -> Spec:
    rows = []
    for one in found.levels:
        if one.rival != rival or math.isnan(one.level):
            continue
        low, high = one.difference.interval()
        known = {"low": low, "high": high} if low == low else {}
        rows.append({
            "rule": one.rule, "factor": TITLES[one.factor], "value": one.difference.value,
            "place": LEVELS[one.factor].index(one.level),
            "level": level_text(one.factor, one.level), **known,
        })  # fmt: skip
    return {
        "hconcat": [
            _factor([r for r in rows if r["factor"] == title], factor, title, rival)
            for factor, title in TITLES.items()
        ]
    }


def _factor(rows: Sequence[Mapping[str, Any]], factor: str, title: str, rival: str) -> Spec:
    order = [level_text(factor, level) for level in LEVELS[factor]]
    x = {"field": "level", "type": "nominal", "sort": order, "title": title,
         "scale": {"domain": order}, "axis": {"labelAngle": 0}}  # fmt: skip
    first = factor == next(iter(TITLES))
    y = {"type": "quantitative", "title": f"above blind, minus {rival}" if first else None}
    offset = {"field": "rule", "type": "nominal", "sort": NAMES}
    colour = {"field": "rule", "type": "nominal", "scale": _colours(), "legend": {"columns": 5}}
    both: Spec = {"x": x, "xOffset": offset, "color": colour}
    return {
        "width": 185, "height": 190, "data": {"values": list(rows)},
        "layer": [
            {"data": {"values": [{"at": 0}]},
             "mark": {"type": "rule", "color": DIM, "strokeDash": [4, 3]},
             "encoding": {"y": {"field": "at", "type": "quantitative"}}},
            {"mark": {"type": "rule", "strokeWidth": 1.8, "opacity": 0.6},
             "encoding": both | {"y": y | {"field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 35, "opacity": 1},
             "encoding": both | {"y": y | {"field": "value"}}},
        ],
    }  # fmt: skip


def _colours() -> Spec:
    range_ = [METHODS[i] for i in (0, 2, 3, 7)] + [COLOURS["random"]]
    return {"domain": NAMES, "range": range_}


def _at(cell: Cell, across: str, upwards: str) -> dict[str, str]:
    return {
        "x": level_text(across, cell.level(across)),
        "y": level_text(upwards, cell.level(upwards)),
    }


def _plane(across: str, upwards: str, side: bool = True) -> Spec:
    def axis(factor: str, order: Sequence[str], shown: bool = True) -> Spec:
        return {
            "type": "nominal", "sort": order, "scale": {"domain": order},
            "title": TITLES[factor] if shown else None,
            "axis": {"domain": False, "ticks": False, "labelAngle": 0, "labels": shown},
        }  # fmt: skip

    columns = [level_text(across, level) for level in LEVELS[across]]
    rows = [level_text(upwards, level) for level in LEVELS[upwards]][::-1]
    return {
        "x": axis(across, columns) | {"field": "x"},
        "y": axis(upwards, rows, side) | {"field": "y"},
    }


def _heatmaps(found: MapFindings, rival: str, across: str, upwards: str) -> Spec:
    """Return each rule minus the rival, each square a cell of the design."""
    rules = [rule for rule in NAMES if rule != rival]
    made: dict[str, list[dict[str, Any]]] = {rule: [] for rule in rules}
    for rule in rules:
        for number in found.above:
            difference = estimate(found.against(rule, rival, [number]))
            if difference is not None:
                at = _at(found.cells[number], across, upwards)
                made[rule].append(at | {"value": round(difference.value, 1)})
    most = max((abs(c["value"]) for cells in made.values() for c in cells), default=1.0) or 1.0
    scale = {"scheme": "purplegreen", "domain": [-most, most]}
    return {
        "hconcat": [
            {
                "title": {"text": f"{rule} minus {rival}", "fontSize": 12},
                "width": {"step": STEP}, "height": {"step": 30}, "data": {"values": made[rule]},
                "encoding": _plane(across, upwards, side=rule == rules[0]),
                "layer": [
                    {"mark": {"type": "rect"},
                     "encoding": {"color": {"field": "value", "type": "quantitative",
                                            "scale": scale, "legend": None}}},
                    {"mark": {"type": "text", "fontSize": 11},
                     "encoding": {"text": {"field": "value", "type": "quantitative",
                                           "format": "+.1f"}}},
                ],
            }
            for rule in rules
        ]
    }  # fmt: skip


def _winners(found: MapFindings, across: str, upwards: str) -> Spec:
    cells = [
        _at(w.cell, across, upwards)
        | {"rule": w.rule, "lead": round(w.lead.value, 1), "clear": w.clear}
        for w in found.winners
    ]
    opacity = {"condition": {"test": "datum.clear", "value": 0.9}, "value": 0.3}
    return {
        "title": {"text": "best rule and its lead; pale: not clear",
                  "fontSize": 12, "anchor": "start"},
        "width": {"step": 60}, "height": {"step": 34}, "data": {"values": cells},
        "encoding": _plane(across, upwards),
        "layer": [
            {"mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2},
             "encoding": {"color": {"field": "rule", "type": "nominal", "scale": _colours(),
                                    "legend": {"columns": 5}}, "opacity": opacity}},
            {"mark": {"type": "text", "fontSize": 11},
             "encoding": {"text": {"field": "lead", "type": "quantitative", "format": "+.1f"}}},
        ],
    }  # fmt: skip
