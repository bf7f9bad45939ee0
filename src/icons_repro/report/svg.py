"""Charts as inline SVG text: no plotting package, nothing to load, sharp at any size.

Colours come from the page's style sheet by class name, so a chart follows a dark screen. Each
chart is drawn for the width it gets, on a wide screen and on a narrow one, because text that
shrinks with its picture cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, NARROW = 660, 340
"""Widths of a chart, in SVG units (pixels at the natural size)."""


@dataclass(frozen=True)
class Bullet:
    """One benchmark: the run's bar, and marks to compare it with."""

    label: str
    value: float
    error: float
    """Half-width of the bar's interval; 0 draws none."""
    marks: Mapping[str, float]
    """Class of mark (`full`, `random`, `blind`) to value."""
    top: float = 100.0
    """Value at the right end of the row's axis."""


def _label(width: float) -> int:
    """Return the width of the column of row labels."""
    return 132 if width > NARROW else 96


def _svg(width: float, height: float, body: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _row_label(width: float, y: float, name: str) -> str:
    """Write a row's name at the right end of the column of labels; a long one is cut, and told."""
    room = int((width - 10) / 7)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    hint = "" if shown == name else f"<title>{escape(name)}</title>"
    return f"<g>{hint}{_text(width - 10, y, shown, 'label', 'end')}</g>"


def _rect(x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> str:
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
        f'class="{kind}">{title}</rect>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bullets(rows: Sequence[Bullet], width: float = WIDTH) -> str:
    """Draw a bar for each benchmark, with ticks for full data, random and blind."""
    step, label = 30, _label(width)
    plot = width - label - 60
    body = []
    for i, row in enumerate(rows):
        y = 6 + i * step

        def x(value: float, top: float = row.top) -> float:
            return label + plot * min(max(value / top, 0.0), 1.0)

        body += [
            _row_label(label, y + 14, row.label),
            _rect(label, y, plot, 18, "track"),
            _rect(label, y, x(row.marks.get("blind", 0.0)) - label, 18, "blind", "blind baseline"),
            _rect(label, y + 4, x(row.value) - label, 10, "run", f"this run {row.value:.1f}"),
        ]
        if row.error:
            ends = x(row.value - row.error), x(row.value + row.error)
            body.append(_line(ends[0], y + 9, ends[1], y + 9, "whisker"))
        if "random" in row.marks:
            at = x(row.marks["random"])
            body.append(f'<circle cx="{at:.1f}" cy="{y + 9:.1f}" r="4" class="random"/>')
        if "full" in row.marks:
            at = x(row.marks["full"])
            body.append(_line(at, y - 1, at, y + 19, "full"))
        body.append(_text(width - 50, y + 14, f"{row.value:.1f}", "value"))
    return _svg(width, 10 + step * len(rows), body, "Scores by benchmark")


def shares(rows: Sequence[tuple[str, float, float]], width: float = WIDTH) -> str:
    """Draw `(name, share of pool, share of selection)`; shares from 0 to 1."""
    step, label = 26, _label(width)
    plot = width - label - 110
    top = max([max(pool, chosen) for _, pool, chosen in rows] or [1.0]) or 1.0
    body = []
    for i, (name, pool, chosen) in enumerate(rows):
        y = 4 + i * step
        body += [
            _row_label(label, y + 14, name),
            _rect(label, y + 1, plot * pool / top, 8, "pool", f"{100 * pool:.1f}% of the pool"),
            _rect(label, y + 10, plot * chosen / top, 8, "run", f"{100 * chosen:.1f}% of choice"),
            _text(width - 100, y + 14, f"{100 * chosen:.1f}%", "value"),
            _text(width, y + 14, f"{chosen / pool:.2f}x" if pool else "", "dim", "end"),
        ]
    return _svg(width, 8 + step * len(rows), body, "Share of each source in pool and selection")


def histogram(
    labels: Sequence[str], chosen: Sequence[int], rest: Sequence[int], width: float = WIDTH
) -> str:
    """Draw stacked columns: rows chosen below, rows left above."""
    height, base = 210, 180
    top = max([c + r for c, r in zip(chosen, rest, strict=True)] or [1]) or 1
    step = (width - 20) / max(len(labels), 1)
    body = [_line(10, base, width - 10, base, "axis")]
    for i, (label, kept, left) in enumerate(zip(labels, chosen, rest, strict=True)):
        x, bar = 10 + i * step + step * 0.12, step * 0.76
        low, high = (base - 20) * kept / top, (base - 20) * left / top
        body += [
            _rect(x, base - low, bar, low, "run", f"{kept:,} chosen"),
            _rect(x, base - low - high, bar, high, "pool", f"{left:,} left"),
            _text(x + bar / 2, base - low - high - 5, f"{kept + left:,}", "tiny", "middle"),
            _text(x + bar / 2, base + 16, label, "label", "middle"),
        ]
    return _svg(width, height, body, "Rows by number of votes")


def heat_map(
    names: Sequence[str], matrix: np.ndarray, columns: Sequence[str], width: float = WIDTH
) -> str:
    """Draw shares `[len(names), len(columns)]` from 0 to 1 as shaded cells with percent."""
    label, tilt = _label(width), 60 if width > NARROW else 24
    cell_w = max(26.0, min(64.0, (width - label - tilt) / max(len(columns), 1)))
    cell_h, head = 26.0, 84.0
    body = []
    for j, name in enumerate(columns):
        x = label + (j + 0.5) * cell_w
        body.append(
            f'<text transform="translate({x + 4:.1f} {head - 8:.1f}) rotate(-40)" '
            f'class="label">{escape(name)}</text>'
        )
    for i, name in enumerate(names):
        y = head + i * cell_h
        body.append(_row_label(label, y + 17, name))
        for j in range(len(columns)):
            share = float(matrix[i, j])
            x = label + j * cell_w
            body.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell_w - 2:.1f}" height="{cell_h - 2:.1f}" '
                f'class="heat" fill-opacity="{share:.2f}"/>'
            )
            kind = "cell-dark" if share > 0.55 else "cell-light"
            body.append(_text(x + cell_w / 2 - 1, y + 16, f"{100 * share:.0f}", kind, "middle"))
    needed = label + cell_w * len(columns) + tilt
    return _svg(max(width, needed), head + cell_h * len(names) + 6, body, "Overlap of tasks")


def curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], width: float = WIDTH) -> str:
    """Draw `{name: (steps [S], values [S])}`; values are smoothed over a tenth of the run.

    Curve number n has the classes `curve` and `c{n % 4}`; the caller names it in a legend.
    """
    height, left, base = 230, 44, 200
    known = {k: v for k, v in lines.items() if len(v[0])}
    if not known:
        return ""
    smooth = {k: (s, _smoothed(v)) for k, (s, v) in known.items()}
    top = max(float(v.max()) for _, v in smooth.values()) or 1.0
    end = max(float(s.max()) for s, _ in smooth.values()) or 1.0
    plot_w, plot_h = width - left - 20, base - 14
    body = [_line(left, base, width - 20, base, "axis")]
    for share in (0.0, 0.5, 1.0):
        y = base - plot_h * share
        body += [_line(left, y, width - 20, y, "grid"),
                 _text(left - 6, y + 4, f"{top * share:.2g}", "tiny", "end")]  # fmt: skip
    for number, (steps, values) in enumerate(smooth.values()):
        points = " ".join(
            f"{left + plot_w * s / end:.1f},{base - plot_h * v / top:.1f}"
            for s, v in zip(*_thinned(steps, values), strict=True)
        )
        body.append(f'<polyline points="{points}" class="curve c{number % 4}"/>')
    body.append(_text(width - 20, base + 18, f"step {end:,.0f}", "tiny", "end"))
    return _svg(width, height, body, "Training loss")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a window of a tenth of the steps, edges included."""
    half = len(values) // 20
    padded = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    mean: np.ndarray = (padded[high] - padded[low]) / (high - low)
    return mean


def _thinned(steps: np.ndarray, values: np.ndarray, most: int = 400) -> tuple[list[float], ...]:
    keep = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).astype(int))
    return steps[keep].tolist(), values[keep].tolist()


def drawn(chart: Callable[[float], str]) -> Markup:
    """Return a chart at both widths, of which the page shows the one that fits.

    It is markup of our own, in which names are escaped already.
    """
    from markupsafe import Markup

    wide, narrow = chart(WIDTH), chart(NARROW)
    if not wide:
        return Markup("")
    return Markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')
