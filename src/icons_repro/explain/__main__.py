"""Why one row was chosen, or left.

python -m icons_repro.explain RUN KEY

RUN is the folder of a finished run; KEY a row's content key (from its page or keys.txt), the
beginning of one, or its place in the pool as row:17. Prints where the row stands and writes
RUN/explain/KEY.html, with the nearest validation rows of every task and their pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError
from icons_repro.explain.neighbours import Neighbour, Stores, nearest, stores_of
from icons_repro.explain.page import facts, task_table, write_explanation
from icons_repro.explain.standing import Standing, standing
from icons_repro.report.compare_page import pool_of
from icons_repro.report.results import read_results
from icons_repro.report.runs import SweepRun, settings_of


def main(arguments: list[str]) -> None:
    """Run the command; `UserError` becomes a line and exit code 1."""
    parser = parser_of("explain", __doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("key", help="a content key, the beginning of one, or row:PLACE")
    options = parser.parse_args(arguments)
    with errors_in_a_line():
        explain(options.run, options.key, Console())


def explain(folder: Path, key: str, console: Console) -> Path:
    """Print where a row stands, write its page, and return the page's path."""
    from icons_repro.data.records import RecordTable

    run = SweepRun(read_results(folder), settings_of(folder / "config.yaml"), folder)
    row = standing(run.located(run.results.selection), key)
    near, stores, notes = _nearest(run, row)
    pool = pool_of(run)
    if pool is None:
        notes.append("The pool's records are gone, and with them the row's text and picture.")
    r = run.results
    path = write_explanation(
        folder / "explain" / f"{row.key}.html",
        row,
        RecordTable(pool / "records.arrow") if pool else None,
        pool / "images" if pool else folder,
        near,
        stores.targets if stores else None,
        title=f"Row {row.position:,} in {r.selector} at {100 * r.budget:g}% of {r.setup}",
        notes=notes,
    )
    _show(row, near, notes, path, console)
    return path


def _nearest(
    run: SweepRun, row: Standing
) -> tuple[dict[str, list[Neighbour]], Stores | None, list[str]]:
    """Return the nearest validation rows, where the gradients are, and why there are none."""
    if run.results.influence is None:
        return {}, None, [f"{run.results.selector} reads no influence: no validation row is near."]
    try:
        stores = stores_of(run.located(run.results.influence))
        return nearest(stores, row.position), stores, []
    except DataError as error:
        return {}, None, [f"No nearest validation rows: {error}"]


def _show(
    row: Standing,
    near: dict[str, list[Neighbour]],
    notes: list[str],
    path: Path,
    console: Console,
) -> None:
    said = ", ".join(f"{name} {value}" for name, value in facts(row))
    console.print(f"row {row.position:,} ({row.key}): {said}", markup=False, highlight=False)
    if row.twins:
        places = ", ".join(map(str, row.twins[:5]))
        console.print(f"the same row stands at {places}, too", markup=False, highlight=False)
    if row.tasks:
        table = Table(box=None, pad_edge=False, header_style="bold")
        head, rows = task_table(row)
        for heading in (*head, "nearest validation rows"):
            table.add_column(heading, justify="left" if heading in ("task", "") else "right")
        for task, *cells in rows:
            closest = [f"{n.position} ({n.cosine:.2f})" for n in near.get(str(task), [])[:3]]
            texts = [cell["text"] if isinstance(cell, dict) else cell for cell in cells]
            table.add_row(str(task), *texts, ", ".join(closest))
        console.print(table)
    console.print(row.distance, markup=False, highlight=False)
    if row.across:
        what = "next in line" if row.chosen else "first to go"
        places = ", ".join(f"row:{place}" for place in row.across)
        console.print(f"{what}: {places}", markup=False, highlight=False)
    for note in notes:
        console.print(note, markup=False, highlight=False)
    console.print(f"page: {path}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
