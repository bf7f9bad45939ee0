"""`python -m icons_repro.report FOLDER...`: one table for each setup, over all runs found there."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from icons_repro.core.errors import UserError
from icons_repro.report.tables import collect, sweep_rows, sweep_tables


def main(arguments: list[str]) -> None:
    """Print the sweep tables of the runs below the folders (default: `outputs/runs`)."""
    roots = [Path(argument) for argument in arguments] or [Path("outputs/runs")]
    try:
        tables = sweep_tables(sweep_rows(collect(roots)))
    except UserError as error:
        sys.exit(f"Error: {error}")
    console = Console()
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
