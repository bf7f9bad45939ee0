"""Charts as inline SVG text: no plotting package, nothing to load, sharp at any size.

Colours come from the page's style sheet by class name, so a chart follows a dark screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup

LABEL = 132
"""Width of the column of row labels, in SVG units (pixels at the natural size)."""
WIDTH = 660


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


def _svg(width: float, height: float, body: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> str:
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
        f'class="{kind}">{title}</rect>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bullets(rows: Sequence[Bullet]) -> str:
    """Draw a bar for each benchmark, with ticks for full data, random and blind."""
    step, plot = 30, WIDTH - LABEL - 60
    body = []
    for i, row in enumerate(rows):
        y = 6 + i * step

        def x(value: float, top: float = row.top) -> float:
            return LABEL + plot * min(max(value / top, 0.0), 1.0)

        body += [
            _text(LABEL - 10, y + 14, row.label, "label", "end"),
            _rect(LABEL, y, plot, 18, "track"),
            _rect(LABEL, y, x(row.marks.get("blind", 0.0)) - LABEL, 18, "blind", "blind baseline"),
            _rect(LABEL, y + 4, x(row.value) - LABEL, 10, "run", f"this run {row.value:.1f}"),
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
        body.append(_text(WIDTH - 50, y + 14, f"{row.value:.1f}", "value"))
    return _svg(WIDTH, 10 + step * len(rows), body, "Scores by benchmark")


def shares(rows: Sequence[tuple[str, float, float]]) -> str:
    """Draw `(name, share of pool, share of selection)`; shares from 0 to 1."""
    step, plot = 26, WIDTH - LABEL - 110
    top = max([max(pool, chosen) for _, pool, chosen in rows] or [1.0]) or 1.0
    body = []
    for i, (name, pool, chosen) in enumerate(rows):
        y = 4 + i * step
        body += [
            _text(LABEL - 10, y + 14, name, "label", "end"),
            _rect(LABEL, y + 1, plot * pool / top, 8, "pool", f"{100 * pool:.1f}% of the pool"),
            _rect(LABEL, y + 10, plot * chosen / top, 8, "run", f"{100 * chosen:.1f}% of choice"),
            _text(WIDTH - 100, y + 14, f"{100 * chosen:.1f}%", "value"),
            _text(WIDTH, y + 14, f"{chosen / pool:.2f}x" if pool else "", "dim", "end"),
        ]
    return _svg(WIDTH, 8 + step * len(rows), body, "Share of each source in pool and selection")


def histogram(labels: Sequence[str], chosen: Sequence[int], rest: Sequence[int]) -> str:
    """Draw stacked columns: rows chosen below, rows left above."""
    height, base = 210, 180
    top = max([c + r for c, r in zip(chosen, rest, strict=True)] or [1]) or 1
    step = (WIDTH - 20) / max(len(labels), 1)
    body = [_line(10, base, WIDTH - 10, base, "axis")]
    for i, (label, kept, left) in enumerate(zip(labels, chosen, rest, strict=True)):
        x, width = 10 + i * step + step * 0.12, step * 0.76
        low, high = (base - 20) * kept / top, (base - 20) * left / top
        body += [
            _rect(x, base - low, width, low, "run", f"{kept:,} chosen"),
            _rect(x, base - low - high, width, high, "pool", f"{left:,} left"),
            _text(x + width / 2, base - low - high - 5, f"{kept + left:,}", "tiny", "middle"),
            _text(x + width / 2, base + 16, label, "label", "middle"),
        ]
    return _svg(WIDTH, height, body, "Rows by number of votes")


def heat_map(names: Sequence[str], matrix: np.ndarray, columns: Sequence[str]) -> str:
    """Draw shares `[len(names), len(columns)]` from 0 to 1 as shaded cells with percent."""
    cell_w = min(64.0, (WIDTH - LABEL) / max(len(columns), 1))
    cell_h, head = 26.0, 84.0
    body = []
    for j, name in enumerate(columns):
        x = LABEL + (j + 0.5) * cell_w
        body.append(
            f'<text transform="translate({x + 4:.1f} {head - 8:.1f}) rotate(-40)" '
            f'class="label">{escape(name)}</text>'
        )
    for i, name in enumerate(names):
        y = head + i * cell_h
        body.append(_text(LABEL - 10, y + 17, name, "label", "end"))
        for j in range(len(columns)):
            share = float(matrix[i, j])
            x = LABEL + j * cell_w
            body.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell_w - 2:.1f}" height="{cell_h - 2:.1f}" '
                f'class="heat" fill-opacity="{share:.2f}"/>'
            )
            kind = "cell-dark" if share > 0.55 else "cell-light"
            body.append(_text(x + cell_w / 2 - 1, y + 16, f"{100 * share:.0f}", kind, "middle"))
    width = LABEL + cell_w * len(columns) + 60
    return _svg(max(WIDTH, width), head + cell_h * len(names) + 6, body, "Overlap of tasks")


def curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
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
    plot_w, plot_h = WIDTH - left - 20, base - 14
    body = [_line(left, base, WIDTH - 20, base, "axis")]
    for share in (0.0, 0.5, 1.0):
        y = base - plot_h * share
        body += [_line(left, y, WIDTH - 20, y, "grid"),
                 _text(left - 6, y + 4, f"{top * share:.2g}", "tiny", "end")]  # fmt: skip
    for number, (steps, values) in enumerate(smooth.values()):
        points = " ".join(
            f"{left + plot_w * s / end:.1f},{base - plot_h * v / top:.1f}"
            for s, v in zip(*_thinned(steps, values), strict=True)
        )
        body.append(f'<polyline points="{points}" class="curve c{number % 4}"/>')
    body.append(_text(WIDTH - 20, base + 18, f"step {end:,.0f}", "tiny", "end"))
    return _svg(WIDTH, height, body, "Training loss")


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


def drawn(text: str) -> Markup:
    """Mark a chart as what it is: markup of our own, in which names are escaped already."""
    from markupsafe import Markup

    return Markup(text)
