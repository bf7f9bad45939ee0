"""One page for a folder of runs: which method won, how sure that is, what it cost, what failed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icons_repro.core.errors import UserError
from icons_repro.report.cells import (
    DASH,
    MARKS,
    Cells,
    difference_text,
    mean_text,
    sweep_tables,
)
from icons_repro.report.html.shell import write_page
from icons_repro.report.inventory import Inventory, take_inventory
from icons_repro.report.lines import FULL
from icons_repro.report.rows import SweepRow
from icons_repro.report.runs import BLIND, SweepRun
from icons_repro.report.sweep import Sweep, sweeps
from icons_repro.report.sweep_charts import budget_charts, curve_of, forest_of
from icons_repro.report.sweep_costs import stage_table
from icons_repro.report.verdict import verdict

FILE = "sweep.html"
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")
TABLE = tuple[Sequence[str], list[list[Any]]]


def write_sweep_page(path: Path, roots: Sequence[Path], again: str = "") -> Path:
    """Write the page of all runs below `roots`. `again` is the command that goes on.

    Raises `UserError` if there is no run at all, finished or not.
    """
    found = take_inventory(roots)
    if not found.runs and not found.unfinished:
        raise UserError(f"no run below {', '.join(map(str, roots))}: run an experiment first.")
    worlds = [_world(group, path.parent) for group in _by_world(sweeps(found.runs))]
    return write_page(
        path,
        "sweep.html",
        ("charts.js",),
        title=_title(found),
        where=str(path.parent),
        facts=_facts(found),
        worlds=worlds,
        unfinished=[_unfinished_row(one, path.parent) for one in found.unfinished],
        again=again,
    )


def _title(found: Inventory) -> str:
    named = list(dict.fromkeys(run.results.experiment for run in found.runs))
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return ", ".join(named[:3]) + more or "Runs"


def _facts(found: Inventory) -> list[tuple[str, str]]:
    methods = {run.results.selector for run in found.runs}
    budgets = {run.results.budget for run in found.runs}
    states = [one.state for one in found.unfinished]
    return [
        ("runs", str(len(found.runs))),
        ("methods", str(len(methods))),
        ("budgets", str(len(budgets))),
        *((state, str(states.count(state))) for state in dict.fromkeys(states)),
    ]


def _unfinished_row(one: Any, here: Path) -> list[Any]:
    kind = "bad" if one.state == "failed" else ""
    return [
        relative_to(one.folder, here),
        {"text": one.state, "kind": kind},
        {"text": one.reason, "kind": "words"},
    ]


def relative_to(folder: Path, here: Path) -> str:
    """Return a folder as seen from another, where it lies below it."""
    try:
        return folder.resolve().relative_to(here.resolve()).as_posix()
    except ValueError:
        return str(folder)


def _by_world(found: Sequence[Sweep]) -> list[list[Sweep]]:
    """Group sweeps that differ in their budget alone, smallest budget first."""
    groups: dict[Any, list[Sweep]] = defaultdict(list)
    for sweep in found:
        first = next(iter(sweep.runs.values()))[0]
        groups[first.world].append(sweep)
    return [sorted(group, key=lambda sweep: sweep.budget) for group in groups.values()]


def _world(group: Sequence[Sweep], here: Path) -> dict[str, Any]:
    first = group[0]
    measure = measure_of(group)
    runs = [run for sweep in group for members in sweep.runs.values() for run in members]
    return {
        "title": first.setup + (f"; {first.world}" if first.world else ""),
        "scale": "Tiny scale: not comparable with the paper's numbers."
        if first.scale == "tiny"
        else f"{first.scale.capitalize()} scale.",
        "measure": measure,
        "verdicts": [line for sweep in group if (line := verdict(sweep))],
        "matrix": matrix(group),
        "matrix_notes": _matrix_notes(group, measure),
        "curve": curve_of(group, measure),
        "budgets": [_budget(sweep, measure) for sweep in group],
        "stages": stage_table(runs),
        "runs": _runs_table(runs, here),
    }


def measure_of(group: Sequence[Sweep]) -> str:
    """Return what methods are ranked by: one measure for all budgets of a world that have any."""
    scored = [sweep for sweep in group if sweep.relative_over]
    return "above blind %" if scored and all(s.blind_over for s in scored) else "Rel. %"


def matrix(group: Sequence[Sweep]) -> TABLE:
    """Return methods by budgets, the best of each budget in bold, marked where it beats random."""
    measure = measure_of(group)
    head = ["method", *(f"{100 * sweep.budget:g}%" for sweep in group)]
    by_sweep = [{row.method: row for row in sweep.rows} for sweep in group]
    names = list(dict.fromkeys(name for rows in reversed(by_sweep) for name in rows))
    names.sort(key=lambda name: (name != FULL, name == BLIND))
    best = [_best(sweep, measure) for sweep in group]
    table: list[list[Any]] = []
    for name in names:
        cells: list[Any] = [{"text": name, "kind": "reference" if name in (FULL, BLIND) else ""}]
        for rows, leader in zip(by_sweep, best, strict=True):
            cells.append(_matrix_cell(rows.get(name), measure, name == leader))
        table.append(cells)
    return head, table


def _best(sweep: Sweep, measure: str) -> str:
    known = [(e.value, r.method) for r in sweep.rows if (e := r.estimate(measure))]
    return max([k for k in known if k[1] not in (FULL, BLIND)], default=(0.0, ""))[1]


def _matrix_cell(row: SweepRow | None, measure: str, leader: bool) -> dict[str, Any]:
    estimate = row.estimate(measure) if row else None
    if row is None or estimate is None:
        return {"text": DASH}
    mark = next((f" {mark}" for level, mark in MARKS if row.p_value < level), "")
    hint = f"minus random: {difference_text(row)}" if row.against_random else None
    return {
        "text": mean_text(estimate) + mark,
        "sort": round(estimate.value, 6),
        "kind": "strong" if leader else "",
        "title": hint,
    }


def _matrix_notes(group: Sequence[Sweep], measure: str) -> list[str]:
    lines = [f"Numbers are {measure}; bold is the best of its budget."]
    if any(row.against_random for sweep in group for row in sweep.rows):
        lines.append(
            "* p < .05, ** p < .01: differs from random data of the same pool and seed, paired, "
            "by Holm's correction over the methods of a budget."
        )
    covered = dict.fromkeys(note for table in sweep_tables(group, None) for note in table.notes[:1])
    return lines + [f"{line[0].upper()}{line[1:]}." for line in covered]


def _budget(sweep: Sweep, measure: str) -> dict[str, Any]:
    (cells,) = sweep_tables([sweep], None)
    return {
        "title": f"{100 * sweep.budget:g}% of the pool",
        "charts": budget_charts(sweep, measure),
        "forest": forest_of(sweep),
        "table": table_of(cells),
        "notes": cells.notes,
    }


def table_of(cells: Cells, first: str = "measure") -> TABLE:
    """Return a table of text as one whose numbers sort as numbers."""
    rows: list[list[Any]] = []
    for name, *values in cells.rows:
        kind = "reference" if name in (FULL, BLIND) else ""
        rows.append([{"text": name, "kind": kind}, *(number_cell(text) for text in values)])
    return [heading or first for heading in cells.headings], rows


def number_cell(text: str) -> dict[str, Any]:
    """Return "72.9 ±3.1" as a cell that sorts by its first number."""
    found = NUMBER.match(text)
    return {"text": text, "sort": found.group().replace(",", "") if found else None}


def _runs_table(runs: Sequence[SweepRun], here: Path) -> TABLE:
    rows: list[list[Any]] = []
    for run in runs:
        r = run.results
        relative: Mapping[str, Any] = r.relative or {}
        above: Mapping[str, Any] = relative.get("above_blind") or {}
        page = run.folder / "report.html" if run.folder else None
        there = relative_to(page, here) if page and page.is_file() else None
        name = run.folder.name if run.folder else run.name
        link = there if there and not there.startswith("/") else None
        rows.append([
            {"text": name, "href": link}, r.selector, {"text": f"{100 * r.budget:g}%"},
            {"text": str(r.seed)}, (r.pool or "")[:8],
            *(_percent(found.get("value")) for found in (relative, above)),
        ])  # fmt: skip
    return ["run", "method", "budget", "seed", "pool", "Rel. %", "above blind %"], rows


def _percent(value: Any) -> dict[str, Any]:
    if not isinstance(value, int | float):
        return {"text": DASH}
    return {"text": f"{value:.1f}", "sort": value}
