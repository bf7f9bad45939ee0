"""When does consensus help? Rules over worlds and budgets, as a map.

python -m icons_repro.studies.consensus_map FOLDER              tables and chart from results.csv
python -m icons_repro.studies.consensus_map FOLDER --run        first run what is missing
python -m icons_repro.studies.consensus_map FOLDER --run --pools 10 --cells 3,7

Runs the first pool of every cell, then the second, and so on; a cell's rows are added as its sweep
ends and what it computed is deleted, so the command can be stopped at any time and goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import UserError
from icons_repro.core.files import write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.studies.consensus_map.charts import chart
from icons_repro.studies.consensus_map.design import Cell, read_design
from icons_repro.studies.consensus_map.findings import RULES, findings, rule_of
from icons_repro.studies.consensus_map.tables import tables
from icons_repro.studies.drawing import save
from icons_repro.studies.rows import FILE, merged, read, write
from icons_repro.studies.sweeps import rows_below, runs_below, sweep

log = logging.getLogger(__name__)

EXPERIMENT = "consensus_map"
POOLS = 5
FIGURE, TABLES = "results.svg", "results.md"
WORKERS = ("executor=local", "workers=2", "logger=none")


def missing(folder: Path, cells: Sequence[Cell], pools: int) -> list[tuple[Cell, int]]:
    """Return the cells and pools that lack a rule, the first pools of all cells first."""
    done: dict[int, set[str]] = defaultdict(set)
    for row in read(folder / FILE):
        done[row.pool_seed].add(rule_of(row))
    wanted = [(cell, pool) for pool in range(1, pools + 1) for cell in cells]
    return [(cell, pool) for cell, pool in wanted if not done[cell.seed(pool)].issuperset(RULES)]


def run(folder: Path, todo: Sequence[tuple[Cell, int]], output: Path, more: Sequence[str]) -> None:
    """Run cells one after the other, adding rows after each.

    Raises `UserError` at the end if some failed; the others are run all the same.
    """
    failed = []
    for number, (cell, pool) in enumerate(todo, start=1):
        log.info("cell %d, pool %d (%d of %d)", cell.cell, pool, number, len(todo))
        own = output / EXPERIMENT / f"cell{cell.cell}-pool{pool}"
        told = [f"experiment={EXPERIMENT}", *cell.overrides(pool), f"paths.output={own}"]
        code = sweep([*told, *WORKERS, *more])
        write(folder / FILE, merged(read(folder / FILE), rows_below(runs_below(own / "runs"))))
        if code:
            failed.append(f"cell {cell.cell}, pool {pool} (kept: {own})")
        else:
            shutil.rmtree(own)
    if failed:
        raise UserError(f"did not end well: {'; '.join(failed)}. The same command tries again.")


def show(folder: Path, cells: Sequence[Cell], console: Console) -> None:
    """Write tables and chart. Raises `DataError` where nothing has been run."""
    rows = read(folder / FILE)
    found = findings(rows, cells)
    made = tables(found)
    for table in made[:-1]:  # the last one, cell by cell, is too wide for a terminal
        table.show(console)
    commits = ", ".join(sorted({row.commit for row in rows}))
    lines = [f"Made from {FILE}; its runs are of commit {commits}.", ""]
    lines += [table.markdown() for table in made]
    lines += ["Left out:", "", *(f"- {note}" for note in found.notes)] if found.notes else []
    write_text(folder / TABLES, "\n".join(lines).rstrip() + "\n")
    save(chart(found), folder / FIGURE, "Each rule against random rows and the vote, by world")
    console.print(
        f"\nwritten: {folder / TABLES}, {folder / FIGURE}", highlight=False, soft_wrap=True
    )


def main(arguments: list[str]) -> None:
    """Run the command; `UserError` becomes a line and exit code 1."""
    parser = parser_of("studies.consensus_map", __doc__)
    parser.add_argument("folder", type=Path, help="folder of design.csv and results.csv")
    parser.add_argument("--run", action="store_true", help="run the cells that results.csv lacks")
    parser.add_argument("--pools", type=int, default=POOLS, help=f"pools a cell ({POOLS})")
    parser.add_argument("--cells", default="", help="these alone, by number: 3,7 (with --run)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --run: more overrides"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_third_parties()
    with errors_in_a_line():
        cells = read_design(options.folder)
        if options.run:
            todo = missing(options.folder, chosen(cells, options.cells), options.pools)
            output = Path(os.environ.get("ICONS_OUTPUT", "outputs"))
            run(options.folder, todo, output, options.set)
        show(options.folder, cells, Console())


def chosen(cells: Sequence[Cell], text: str) -> list[Cell]:
    """Return the cells that a text names, or all. Raises `UserError` for one that is none."""
    if not text:
        return list(cells)
    by_number = {str(cell.cell): cell for cell in cells}
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in by_number]:
        raise UserError(f"no cell {', '.join(unknown)}: the design has 1 to {len(cells)}.")
    return [by_number[name] for name in names]


if __name__ == "__main__":
    main(sys.argv[1:])
