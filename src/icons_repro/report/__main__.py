"""Tables over many runs.

python -m icons_repro.report [--markdown | --page FILE] [FOLDER...]   every sweep below
python -m icons_repro.report compare [--markdown | --page FILE] A B   one method against another

FOLDER is outputs/runs where none is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.report.cells import Cells, sweep_tables
from icons_repro.report.compare import compare
from icons_repro.report.compare_page import write_compare_page
from icons_repro.report.compare_tables import comparison_tables
from icons_repro.report.runs import collect
from icons_repro.report.sweep import sweeps
from icons_repro.report.sweep_page import write_sweep_page

COMPARE = "compare"


def main(arguments: list[str]) -> None:
    """Run one of the two commands; `UserError` becomes a line and exit code 1."""
    with errors_in_a_line():
        if arguments[:1] == [COMPARE]:
            compare_command(arguments[1:])
        else:
            sweep_command(arguments)


def sweep_command(arguments: list[str]) -> None:
    """Print the sweep tables of the runs below the folders (default: `outputs/runs`)."""
    parser = parser_of("report", __doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="default: outputs/runs")
    _add_output(parser)
    options = parser.parse_args(arguments)
    folders = options.folders or [Path("outputs/runs")]
    if options.page:
        Console().print(write_sweep_page(options.page, folders), soft_wrap=True, highlight=False)
        return
    found = sweeps(collect(folders))
    show(sweep_tables(found, None if options.markdown else Console().width), options.markdown)


def compare_command(arguments: list[str]) -> None:
    """Print what two runs, or two folders of runs, have over each other."""
    parser = argparse.ArgumentParser(
        prog=f"python -m icons_repro.report {COMPARE}",
        description="Compare two methods on the pools and seeds that both were run on.",
    )
    parser.add_argument("a", type=Path, help="a run, or a folder of runs of one method")
    parser.add_argument("b", type=Path, help="another")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE",
        help="take only runs with this setting, such as selector.rule=vote; may be repeated",
    )  # fmt: skip
    _add_output(parser)
    options = parser.parse_args(arguments)
    found = compare(options.a, options.b, options.where)
    if options.page:
        Console().print(write_compare_page(options.page, found), soft_wrap=True, highlight=False)
        return
    show(comparison_tables(found), options.markdown)


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Add the two ways of writing instead of printing for a terminal."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--markdown", action="store_true", help="print for a page, not a terminal")
    where.add_argument("--page", type=Path, metavar="FILE", help="write one HTML page, with charts")


def show(tables: Iterable[Cells], markdown: bool) -> None:
    """Print tables for a page or for the terminal."""
    console = Console()
    for table in tables:
        if markdown:
            console.print(table.markdown(), markup=False, highlight=False, soft_wrap=True)
        else:
            table.show(console)


if __name__ == "__main__":
    main(sys.argv[1:])
