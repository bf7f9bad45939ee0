"""Vega-Lite charts as SVG files that stand alone: the pages' charts, in the light page's colours.

They carry their colours, so they look the same on a dark screen, on white.
"""

from __future__ import annotations

import re
from pathlib import Path

from icons_repro.core.files import write_text
from icons_repro.report.charts import Spec, svg_of

COLOURS = {
    "ink": "#1b2330", "dim": "#5d6778", "line": "#dde2ea", "paper": "#ffffff", "run": "#2457d6",
    "random": "#c8690b", "b": "#0f8a6d", "c": "#a1309a", "d": "#b3261e", "e": "#6b7280",
    "good": "#0b7a56", "bad": "#b3261e",
}  # fmt: skip
"""Of report/html/static/page.css."""
METHODS = [*(COLOURS[name] for name in ("run", "random", "b", "c", "d", "e", "ink")),
           "#b58900", "#00a0c6", "#8fbf3f"]  # fmt: skip
"""Colours of lines, in the order in which methods are named."""
ROOM = {"left": 28, "top": 14, "right": 20, "bottom": 5}
"""Pixels around a chart: its edge cuts labels that a reader's font makes wider than ours."""


def save(spec: Spec, path: Path, alt: str) -> None:
    """Write a chart as SVG; the same chart gives the same bytes."""
    spec = {"padding": ROOM, **spec}
    drawn = re.sub(r"var\(--(\w+)\)", lambda name: COLOURS[name[1]], str(svg_of(spec, alt)))
    back = f'<rect width="100%" height="100%" fill="{COLOURS["paper"]}"/>'
    end = drawn.index(">", drawn.index("<svg ")) + 1
    write_text(path, f"{drawn[:end]}{back}{drawn[end:]}\n")
