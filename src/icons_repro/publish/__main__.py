"""The rows that a run chose, as a dataset that stands alone.

python -m icons_repro.publish RUN FOLDER [--push OWNER/NAME [--private]]

RUN is the folder of a finished run. Writes FOLDER/data/train-*.parquet with the images inside and
FOLDER/README.md, the card; `datasets.load_dataset(FOLDER)` reads it, and so does data.hub=FOLDER.
--push sends the folder to the Hugging Face hub.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError
from icons_repro.core.files import write_text
from icons_repro.data.records import RecordTable
from icons_repro.publish.card import card
from icons_repro.publish.parquet import write_parquet
from icons_repro.publish.push import push_to_hub
from icons_repro.report.compare_page import pool_of
from icons_repro.report.results import read_results
from icons_repro.report.runs import SweepRun, settings_of


def main(arguments: list[str]) -> None:
    """Run the command; `UserError` becomes a line and exit code 1."""
    parser = parser_of("publish", __doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("folder", type=Path, help="a folder that is not there yet, or empty")
    parser.add_argument("--push", metavar="OWNER/NAME", help="a dataset on the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    options = parser.parse_args(arguments)
    console = Console()
    with errors_in_a_line():
        rows = publish(options.run, options.folder)
        say = f"{rows:,} rows in {options.folder}"
        if options.push:
            say += f", and at {push_to_hub(options.folder, options.push, options.private)}"
        console.print(say, markup=False, highlight=False, soft_wrap=True)


def publish(run_folder: Path, out: Path) -> int:
    """Write a run's subset to `out`; return the number of its rows.

    Raises `DataError` for a folder that holds something, and a run whose pool is gone.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there and holds something: name a folder that is not, or empty.")
    run = SweepRun(read_results(run_folder), settings_of(run_folder / "config.yaml"), run_folder)
    pool, selection = pool_of(run), run.located(run.results.selection)
    if pool is None:
        raise DataError(
            f"the pool of {run_folder} is gone from the cache: give the run's command again, and "
            "it is read once more."
        )
    r = run.results
    about = f"{r.selector} at {100 * r.budget:g}% of {r.setup}, seed {r.seed}"
    return write_dataset(pool, selection, out, f"{about} (selection {selection.name})")


def write_dataset(pool: Path, selection: Path, out: Path, about: str) -> int:
    """Write `data/` and, when that is whole, the card; return the number of rows."""
    table = RecordTable(pool / "records.arrow")
    positions = np.load(selection / "positions.npy")
    out.mkdir(parents=True, exist_ok=True)
    try:
        files = write_parquet(table, positions, pool / "images", out / "data")
    except BaseException:
        shutil.rmtree(out / "data", ignore_errors=True)
        raise
    write_text(out / "README.md", card(table, positions, selection, files, about))
    return len(positions)


if __name__ == "__main__":
    main(sys.argv[1:])
