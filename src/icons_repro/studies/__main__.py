"""Run, extend and redraw the studies of `experiments/`.

python -m icons_repro.studies FOLDER...              tables and figure from results.csv
python -m icons_repro.studies --run FOLDER...        first run the pools that results.csv lacks
python -m icons_repro.studies --add RUNS FOLDER      first take in the runs below a folder
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from rich.console import Console

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.files import write_text
from icons_repro.studies.analysis import Findings, analyse
from icons_repro.studies.figure import draw
from icons_repro.studies.study import Study
from icons_repro.studies.tables import tables

FIGURE, TABLES = "results.svg", "results.md"


def main(arguments: list[str]) -> None:
    """Run the command; `UserError` becomes a line and exit code 1."""
    parser = parser_of("studies", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with a study.yaml")
    parser.add_argument("--run", action="store_true", help="run what results.csv lacks")
    parser.add_argument(
        "--again", action="store_true", help="with --run: every pool, not the lacking"
    )
    parser.add_argument("--add", type=Path, metavar="RUNS", help="take in the runs below a folder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --run: more overrides"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with errors_in_a_line():
        for folder in options.folders:
            study = Study.of(folder)
            if options.add:
                logging.info("%d rows are new", study.add(options.add))
            if options.run:
                output = Path(os.environ.get("ICONS_OUTPUT", "outputs"))
                study.run(output, options.again, options.set)
            _show(study)


def _show(study: Study) -> None:
    found = analyse(study.rows(), study.against)
    console = Console()
    made = tables(found)
    for table in made:
        table.show(console)
    for note in found.notes:
        console.print(f"left out: {note}", style="dim", markup=False, highlight=False)
    write_text(study.folder / TABLES, _page(study, found))
    draw(found, study.folder / FIGURE)
    console.print(f"\nwritten: {study.folder / TABLES}, {study.folder / FIGURE}", highlight=False)


def _page(study: Study, found: Findings) -> str:
    made = f"python -m icons_repro.studies {study.folder}"
    commits = ", ".join(sorted({row.commit for row in study.rows()}))
    lines = [f"Made from {study.results.name} by `{made}`; its runs are of commit {commits}.", ""]
    lines += [table.markdown() for table in tables(found)]
    lines += ["Left out:", "", *(f"- {note}" for note in found.notes)] if found.notes else []
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
