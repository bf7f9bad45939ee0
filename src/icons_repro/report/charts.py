"""Charts by Vega-Lite, drawn while the page is made: SVG inside of it, and no script to run them.

Colours are the page's own variables, so a chart follows a dark screen. Each is drawn twice, for a
wide and for a narrow screen, because text that shrinks with its picture cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

Spec = dict[str, Any]
WIDE, HALF, NARROW = 640, 350, 250
"""Widths of the plotted area in pixels, without labels: of a page, of half of one, of a phone."""
INK, DIM, LINE, RUN = "var(--ink)", "var(--dim)", "var(--line)", "var(--run)"
GOOD, BAD, RANDOM = "var(--good)", "var(--bad)", "var(--random)"
COLOURS = [RUN, RANDOM, "var(--b)", "var(--c)", "var(--d)", "var(--e)"]
FONT = "Inter, Segoe UI, system-ui, -apple-system, Helvetica Neue, Arial, sans-serif"
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": DIM, "titleColor": DIM, "domainColor": LINE, "tickColor": LINE,
        "gridColor": LINE, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "labelLimit": 190,
    },
    "legend": {
        "labelColor": INK, "titleColor": DIM, "labelFontSize": 12, "titleFontSize": 12,
        "orient": "top", "title": None, "labelLimit": 190, "columns": 4, "symbolStrokeWidth": 0,
        "symbolOpacity": 1, "symbolType": "circle",
    },
    "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": 600, "title": None},
    "range": {"category": COLOURS},
    "text": {"font": FONT, "color": INK, "fontSize": 12},
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """One chart, for both widths."""

    wide: Markup
    narrow: Markup
    caption: str


def chart(build: Callable[[int], Spec], alt: str, caption: str = "", width: int = WIDE) -> Chart:
    """Draw what `build` returns for both widths. `alt` says in words what it shows."""
    wide, narrow = (svg_of(build(each), alt) for each in (width, NARROW))
    return Chart(wide, narrow, caption)


def svg_of(spec: Spec, alt: str) -> Markup:
    """Return a Vega-Lite chart as SVG, with its text for those who do not see it."""
    import vl_convert
    from markupsafe import Markup

    whole = {"config": CONFIG, **spec}
    drawn = vl_convert.vegalite_to_svg(json.dumps(whole), allowed_base_urls=[])
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))
