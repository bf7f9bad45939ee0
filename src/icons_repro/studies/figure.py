"""A study's findings as a picture: every method's interval, and each pool as a dot."""

from __future__ import annotations

from pathlib import Path

from icons_repro.studies.analysis import Findings

PLOT, LETTER, ROW = 5.0, 0.085, 0.28
"""Inches: a panel's width without the methods' names, a letter of these, a row."""
INK, DOT = "#1f4e79", "#9db7d1"


def draw(found: Findings, path: Path) -> None:
    """Write an SVG: above-blind performance by method, a panel for each budget and length."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "icons-repro"  # the same findings, the same bytes
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    regimes = list(dict.fromkeys((m.regime, m.budget) for m in found.methods))
    most = max(sum((m.regime, m.budget) == regime for m in found.methods) for regime in regimes)
    pools = "1 pool" if len(found.pools) == 1 else f"{len(found.pools)} pools"
    wide = PLOT + LETTER * max(len(m.name) for m in found.methods)
    figure, axes = pyplot.subplots(
        1, len(regimes), squeeze=False, figsize=(wide * len(regimes), 1.2 + ROW * most)
    )
    for axis, (regime, budget) in zip(axes[0], regimes, strict=True):
        methods = [m for m in found.methods if (m.regime, m.budget) == (regime, budget)][::-1]
        for place, method in enumerate(methods):
            dots = [above for _, above in method.by_pool.values()]
            axis.plot(dots, [place] * len(dots), ".", color=DOT, zorder=1)
            low, high = method.above_blind.interval()
            if low == low:  # one pool has no interval
                axis.plot([low, high], [place, place], color=INK, linewidth=2, zorder=2)
            axis.plot(method.above_blind.value, place, "o", color=INK, zorder=3)
        axis.set_ylim(-0.7, len(methods) - 0.3)
        axis.set_yticks(range(len(methods)), [m.name for m in methods])
        axis.axvline(100, color="0.6", linewidth=0.8, linestyle="--")
        axis.set_xlabel("above blind, % of full data")
        axis.set_title(f"{regime}, {100 * budget:g}% of the pool, {pools}")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
