"""The paper's printed numbers as charts: on axes of their own, which say whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from icons_repro.report.chart_specs import around, shared_rows
from icons_repro.report.charts import RANDOM, RUN, Spec
from icons_repro.studies.drawing import METHODS
from icons_repro.studies.paper_figures.printed import CURVE, OVERLAP, TABLES, read_table, rows_of

TITLE = "Rel. % of the tables of the paper"
READ_OFF = "Rel. %, read off the paper's figure, ±0.1"
WIDTH = 560


def charts(folder: Path) -> Mapping[str, tuple[Spec, str]]:
    """Return each chart with its description, by the name of its file."""
    return {
        CURVE: (_curve(read_table(folder / f"{CURVE}.csv")),
                "The paper's relative performance over selection ratios, by method"),
        OVERLAP: (_overlap(read_table(folder / f"{OVERLAP}.csv")),
                  "The paper's overlap in percent between the choices for single tasks"),
        "relative": (_relative(folder), "Rel. of the paper's tables, printed and recomputed"),
    }  # fmt: skip


def _curve(table: Mapping[str, Mapping[str, float]]) -> Spec:
    rows = [
        {"method": method, "budget": 100 * float(ratio), "value": value}
        for method, values in table.items()
        for ratio, value in values.items()
    ]
    budgets = sorted({100 * float(ratio) for values in table.values() for ratio in values})
    x = {"field": "budget", "type": "quantitative", "title": "share of LLaVA-665K",
         "scale": around(budgets, 1.1),
         "axis": {"values": budgets, "labelExpr": "datum.label + '%'", "grid": False}}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": READ_OFF, "scale": {"zero": False}}
    scale = {"domain": list(table), "range": METHODS}
    colour = {"field": "method", "type": "nominal", "scale": scale, "legend": {"columns": 5}}
    return {
        "width": WIDTH, "height": 320, "data": {"values": rows},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2},
             "encoding": {"x": x, "y": y, "color": colour}},
            {"mark": {"type": "point", "filled": True, "size": 40},
             "encoding": {"x": x, "y": y, "color": colour}},
        ],
    }  # fmt: skip


def _overlap(table: Mapping[str, Mapping[str, float]]) -> Spec:
    grid = [
        {"a": a, "b": b, "share": share}
        for a, shares in table.items()
        for b, share in shares.items()
    ]
    return shared_rows(grid, list(table))(WIDTH) | {
        "title": {"text": "shared rows in %, as printed in the paper", "fontWeight": "normal"}
    }


def _relative(folder: Path) -> Spec:
    rows = [
        {"table": table.title, "row": row.name, "what": what, "value": value}
        for table in TABLES
        for row in rows_of(folder, table)
        for what, value in (("printed", row.printed), ("recomputed", row.recomputed))
    ]
    return {
        "data": {"values": rows},
        "facet": {"row": {"field": "table", "type": "nominal", "sort": None,
                          "header": {"labelOrient": "top", "labelAnchor": "start"}}},
        "spec": {
            "width": WIDTH, "height": {"step": 20},
            "mark": {"type": "point", "size": 75, "filled": True, "opacity": 0.75},
            "encoding": {
                "x": {"field": "value", "type": "quantitative", "title": TITLE,
                      "scale": {"zero": False}},
                "y": {"field": "row", "type": "nominal", "sort": None, "title": None},
                "color": {"field": "what", "type": "nominal",
                          "scale": {"domain": ["printed", "recomputed"], "range": [RUN, RANDOM]}},
                "shape": {"field": "what", "type": "nominal",
                          "scale": {"domain": ["printed", "recomputed"],
                                    "range": ["circle", "diamond"]}},
            },
        },
        "resolve": {"scale": {"y": "independent"}},
    }  # fmt: skip
