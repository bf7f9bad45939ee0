"""One table for each setup, over all runs found below some folders.

python -m icons_repro.report [--markdown] [FOLDER...]    (default: outputs/runs)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from icons_repro.core.errors import UserError
from icons_repro.report.sweep import collect, sweep_rows, sweep_tables


def main(arguments: list[str]) -> None:
    """Print the sweep tables of the runs below the folders (default: `outputs/runs`)."""
    parser = argparse.ArgumentParser(prog="python -m icons_repro.report", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="default: outputs/runs")
    parser.add_argument("--markdown", action="store_true", help="print for a page, not a terminal")
    options = parser.parse_args(arguments)
    roots = options.folders or [Path("outputs/runs")]
    try:
        tables = sweep_tables(sweep_rows(collect(roots)))
    except UserError as error:
        sys.exit(f"Error: {error}")
    console = Console()
    for table in tables:
        if options.markdown:
            console.print(table.markdown(), markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(table.rich())


if __name__ == "__main__":
    main(sys.argv[1:])
