"""The paper's figures: on the tiny world, and beside them, apart, what the paper prints.

python -m icons_repro.studies.paper_figures FOLDER                       tables and charts
python -m icons_repro.studies.paper_figures FOLDER --run                 first run what is missing
python -m icons_repro.studies.paper_figures FOLDER --run --only FIGURE

Each figure's pools run one after the other; rows are added when a pool's sweeps end, so the command
goes on where it was interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import UserError
from icons_repro.core.files import write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.report.cells import Cells
from icons_repro.report.runs import SweepRun
from icons_repro.studies.csv_rows import read_rows, write_rows
from icons_repro.studies.drawing import save
from icons_repro.studies.paper_figures import printed, printed_charts
from icons_repro.studies.paper_figures.charts import chart, overlap
from icons_repro.studies.paper_figures.figure import Figure, figures_of
from icons_repro.studies.paper_figures.shared import FILE as OVERLAP
from icons_repro.studies.paper_figures.shared import Shared, shared_of
from icons_repro.studies.paper_figures.shared import table as overlap_table
from icons_repro.studies.rows import merged, write
from icons_repro.studies.sweeps import REFERENCES, rows_below, runs_below, sweep
from icons_repro.studies.tables import tables

log = logging.getLogger(__name__)

EXPERIMENT = "paper_figures"
PAPER = "paper"
FIGURE, TABLES = "results.svg", "results.md"


def run(figure: Figure, output: Path, more: Sequence[str]) -> None:
    """Run the sweeps of every pool that lacks a method, and add its rows.

    Raises `UserError` if a sweep ends with a failure; what it scored is added before.
    """
    for pool in figure.missing():
        name = f"{EXPERIMENT}/{figure.name}/{pool}"
        fixed = [f"experiment={EXPERIMENT}", f"data.world.seed={pool}", f"names.experiment={name}"]
        fixed += [f"paths.output={output}"]
        codes = [sweep([*fixed, *each, *more]) for each in figure.sweeps]
        runs = runs_below(output / "runs" / "tiny" / name)
        rows = merged(figure.rows(), rows_below(runs, figure.vary))
        write(figure.results, rows)
        _keep_overlap(figure, runs, pool)
        if any(codes):
            raise UserError(
                f"{figure.name}, pool {pool}: a sweep failed, see its last lines. The same command "
                "goes on."
            )


def _keep_overlap(figure: Figure, runs: Sequence[SweepRun], pool: int) -> None:
    """Keep what the choices of a pool's runs share."""
    named = {}
    for each in runs:
        for row in rows_below([each], figure.vary):
            if row.selector not in REFERENCES:
                named[f"{figure.called(row)} {row.budget:g}"] = (figure.called(row), each)
    path = figure.results.with_name(OVERLAP)
    if figure.kind == "benchmarks":
        old = [one for one in read_rows(path, Shared) if one.pool_seed != pool]
        write_rows(path, [*old, *shared_of(list(named.values()), pool)], Shared)


def show(figure: Figure, console: Console) -> None:
    """Write a figure's tables and chart; one that has no rows yet is named."""
    folder = figure.results.parent
    if figure.kind == "overlap":
        shared = read_rows(figure.folder / figure.of / OVERLAP, Shared)
        made = [overlap_table(shared, figure.title)] if shared else []
        spec = overlap(shared) if shared else None
        notes: list[str] = []
    elif figure.rows():
        groups = figure.found()
        made = [t for group, found in groups.items() for t in _named(group, tables(found))]
        spec = chart(figure, groups)
        notes = [note for found in groups.values() for note in found.notes]
    else:
        made, spec, notes = [], None, []
    if spec is None:
        console.print(f"{figure.name}: not run yet", style="dim")
        return
    folder.mkdir(exist_ok=True)
    _write(folder / TABLES, made, f"Tiny world: {figure.title}.", notes)
    save(spec, folder / FIGURE, f"Tiny world: {figure.title}")
    console.print(f"written: {folder / TABLES}, {folder / FIGURE}", highlight=False, soft_wrap=True)


def _named(group: str, made: Sequence[Cells]) -> list[Cells]:
    return [Cells(f"{group}: {t.title}" if group else t.title, t.headings, t.rows, t.notes)
            for t in made]  # fmt: skip


def show_printed(folder: Path, console: Console) -> None:
    """Write the paper's printed numbers, as tables and charts of their own."""
    made = [printed.cells(folder, table) for table in printed.TABLES]
    about = "The paper's numbers as printed, and Rel. computed again from them; no run of ours."
    _write(folder / "printed.md", made, about, [])
    for name, (spec, alt) in printed_charts.charts(folder).items():
        save(spec, folder / f"{name}.svg", alt)
    console.print(
        f"written: {folder / 'printed.md'} and its charts", highlight=False, soft_wrap=True
    )


def _write(path: Path, made: Sequence[Cells], about: str, notes: Sequence[str]) -> None:
    lines = [about, "", *(table.markdown() for table in made)]
    lines += ["Left out:", "", *(f"- {note}" for note in dict.fromkeys(notes))] if notes else []
    write_text(path, "\n".join(lines).rstrip() + "\n")


def main(arguments: list[str]) -> None:
    """Run the command; `UserError` becomes a line and exit code 1."""
    parser = parser_of("studies.paper_figures", __doc__)
    parser.add_argument("folder", type=Path, help="folder with a figures.yaml")
    parser.add_argument("--run", action="store_true", help="run the pools that a figure lacks")
    parser.add_argument("--only", action="append", default=[], metavar="FIGURE")
    parser.add_argument("--pools", type=int, help="no more pools than this, the first ones")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --run: more overrides"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_third_parties()
    console = Console()
    with errors_in_a_line():
        for figure in chosen(options.folder, options.only, options.pools):
            if options.run and figure.sweeps:
                run(figure, Path(os.environ.get("ICONS_OUTPUT", "outputs")), options.set)
            show(figure, console)
        if not options.only:
            show_printed(options.folder / PAPER, console)


def chosen(folder: Path, only: Sequence[str], pools: int | None) -> list[Figure]:
    """Return the figures to work on. Raises `UserError` for a name that is none."""
    figures = {figure.name: figure for figure in figures_of(folder)}
    if unknown := [name for name in only if name not in figures]:
        raise UserError(f"no figure {', '.join(unknown)}: there are {', '.join(figures)}.")
    return [figure.first(pools) for name, figure in figures.items() if not only or name in only]


if __name__ == "__main__":
    main(sys.argv[1:])
