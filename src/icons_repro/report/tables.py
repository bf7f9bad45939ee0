"""The end table of one run, and the table of a sweep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import UserError
from icons_repro.evaluation.relative import Relative, mean_interval
from icons_repro.report.lines import FULL, THIS_RUN
from icons_repro.report.results import RunResults, find_results, read_results

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, Mapping[str, Any]]
"""`evaluate`'s results by benchmark."""

DASH = "-"


@dataclass(frozen=True)
class SweepRow:
    """One selector at one budget, over seeds."""

    setup: str
    scale: str
    selector: str
    budget: float
    seeds: tuple[int, ...]
    relative: tuple[float, float, float] | None
    """Mean, low, high over seeds (Student's t, 95%); NaN ends for one seed."""
    benchmarks: Mapping[str, tuple[float, float, float]]
    """The same by benchmark, for those scored in every seed."""


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

    `lines` maps a column's heading to results; the run is `THIS_RUN`, full data `FULL`.
    """
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold")
    table.add_column("benchmark", no_wrap=True)
    if blind:
        table.add_column("blind", justify="right", style="dim")
    for name in lines:
        table.add_column(name, justify="right", style="bold" if name == THIS_RUN else "")
    table.add_column("of full", justify="right")
    for benchmark in _names(lines):
        found = {name: results.get(benchmark) for name, results in lines.items()}
        cells = [benchmark]
        cells += [f"{blind[benchmark]:.1f}" if benchmark in blind else DASH] if blind else []
        cells += [score_text(result) for result in found.values()]
        table.add_row(*cells, _share(found.get(THIS_RUN), found.get(FULL)))
    return table


def _names(lines: Mapping[str, Results]) -> list[str]:
    return list(dict.fromkeys(name for results in lines.values() for name in results))


def _share(mine: Mapping[str, Any] | None, full: Mapping[str, Any] | None) -> str:
    if mine is None or full is None or mine["status"] != "ok" or full["status"] != "ok":
        return DASH
    return f"{100 * mine['score'] / full['score']:.1f}%" if full["score"] else DASH


def collect(roots: Iterable[Path]) -> list[RunResults]:
    """Read every `results.json` below some folders. Raises `UserError` if there is none."""
    folders = list(roots)
    found = [read_results(path) for path in find_results(folders)]
    if not found:
        named = ", ".join(str(folder) for folder in folders)
        raise UserError(f"no results.json below {named}: run an experiment first.")
    return found


def sweep_rows(runs: Sequence[RunResults]) -> list[SweepRow]:
    """Return mean and interval over seeds for each setup, selector and budget."""
    groups: dict[tuple[str, str, str, float], list[RunResults]] = defaultdict(list)
    for run in runs:
        groups[run.scale, run.setup, run.selector, float(run.budget)].append(run)
    rows = []
    for (scale, setup, selector, budget), members in sorted(groups.items()):
        relative = [m.relative["value"] for m in members if m.relative is not None]
        whole = len(relative) == len(members)
        rows.append(
            SweepRow(
                setup=setup,
                scale=scale,
                selector=selector,
                budget=budget,
                seeds=tuple(sorted(m.seed for m in members)),
                relative=mean_interval(relative) if whole else None,
                benchmarks=_means(members),
            )
        )
    return rows


def _means(members: Sequence[RunResults]) -> dict[str, tuple[float, float, float]]:
    names = dict.fromkeys(name for m in members for name in m.benchmarks)
    means = {}
    for name in names:
        results = [m.benchmarks.get(name) for m in members]
        if all(r is not None and r["status"] == "ok" for r in results):
            means[name] = mean_interval([r["score"] for r in results if r is not None])
    return means


def sweep_tables(rows: Sequence[SweepRow]) -> list[Table]:
    """Return one table for each setup: tiny and paper numbers never share one."""
    from rich.table import Table

    tables = []
    for scale, setup in dict.fromkeys((row.scale, row.setup) for row in rows):
        members = [row for row in rows if (row.scale, row.setup) == (scale, setup)]
        names = list(dict.fromkeys(name for row in members for name in row.benchmarks))
        table = Table(
            title=f"{setup} ({scale} scale), mean ± half-width of the 95% interval over seeds",
            title_justify="left",
            header_style="bold",
        )
        table.add_column("selector")
        for heading in ("budget", "seeds", "Rel. %", *names):
            table.add_column(heading, justify="right")
        for row in members:
            cells = [row.selector, f"{row.budget:g}", str(len(row.seeds)), mean_text(row.relative)]
            table.add_row(*cells, *(mean_text(row.benchmarks.get(name)) for name in names))
        tables.append(table)
    return tables


def mean_text(interval: tuple[float, float, float] | None) -> str:
    """Return "97.2 ±1.4"; no half-width for one seed."""
    if interval is None:
        return DASH
    mean, _, high = interval
    return f"{mean:.1f}" if high != high else f"{mean:.1f} ±{high - mean:.1f}"
