"""The end table of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from icons_repro.evaluation.relative import Relative
from icons_repro.report.lines import FULL, THIS_RUN

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, Mapping[str, Any]]
"""`evaluate`'s results by benchmark."""

DASH = "-"


def score_text(result: Mapping[str, Any] | None) -> str:
    """Return a score with its standard error, or why there is none."""
    if result is None:
        return DASH
    if result["status"] != "ok":
        return "n/a"
    error = f" ±{result['stderr']:.1f}" if result["stderr"] is not None else ""
    return f"{result['score']:.1f}{error}"


def relative_text(relative: Relative | None) -> str:
    """Return "98.6% [97.1, 100.2]"."""
    if relative is None:
        return DASH
    if relative.low is None:
        return f"{relative.value:.1f}%"
    return f"{relative.value:.1f}% [{relative.low:.1f}, {relative.high:.1f}]"


def end_table(lines: Mapping[str, Results], blind: Mapping[str, float], title: str = "") -> Table:
    """Return benchmark | blind | the models of `lines` | this run's share of full data.

    `lines` maps a column's heading to results; the run is `THIS_RUN`, full data `FULL`. Names are
    folded where a terminal is narrow; numbers are never cut.
    """
    from rich.table import Table
    from rich.text import Text

    heading = Text(title) if title else None
    table = Table(title=heading, title_justify="left", header_style="bold", padding=(0, 1))
    table.add_column("benchmark", overflow="fold")
    if blind:
        table.add_column("blind", justify="right", style="dim", no_wrap=True)
    for name in lines:
        style = "bold" if name == THIS_RUN else ""
        table.add_column(name, justify="right", style=style, no_wrap=True)
    table.add_column("of full", justify="right", no_wrap=True)
    for benchmark in _names(lines):
        found = {name: results.get(benchmark) for name, results in lines.items()}
        cells = [f"{blind[benchmark]:.1f}" if benchmark in blind else DASH] if blind else []
        cells += [score_text(result) for result in found.values()]
        table.add_row(Text(benchmark), *cells, _share(found.get(THIS_RUN), found.get(FULL)))
    return table


def _names(lines: Mapping[str, Results]) -> list[str]:
    return list(dict.fromkeys(name for results in lines.values() for name in results))


def _share(mine: Mapping[str, Any] | None, full: Mapping[str, Any] | None) -> str:
    if mine is None or full is None or mine["status"] != "ok" or full["status"] != "ok":
        return DASH
    return f"{100 * mine['score'] / full['score']:.1f}%" if full["score"] else DASH
