from __future__ import annotations

import io

import pytest
from rich.console import Console

from icons_repro.evaluation.relative import Relative
from icons_repro.report.cells import Cells
from icons_repro.report.gather import PageInputs
from icons_repro.report.summary import print_summary
from icons_repro.report.tables import end_table


def shown(*things: object) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for thing in things:
        console.print(thing)
    return console.export_text()


def test_end_table_shows_every_model_and_this_runs_share_of_full(inputs: PageInputs) -> None:
    text = shown(end_table(inputs.lines, inputs.blind))
    row = next(line for line in text.splitlines() if "tiny_vqa" in line)
    for cell in ("20.0", "63.0 ±2.0", "55.0 ±2.0", "61.0 ±2.0", "96.8%"):
        assert cell in row
    assert "n/a" in next(line for line in text.splitlines() if "judged" in line)


def test_summary_names_files_missing_benchmarks_and_next_commands(inputs: PageInputs) -> None:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    relatives = {"relative to full data": Relative(97.0, None, None, "full", note="why not")}
    print_summary(
        inputs.results, inputs.lines, inputs.blind, relatives, inputs.files,
        ["python run.py selector=random"], console,
    )  # fmt: skip
    text = console.export_text()
    assert "icons at 20% of tiny (12 of 60 rows, seed 0)" in text
    assert "relative to full data: 97.0%" in text
    assert "no interval: why not" in text
    assert "judged not available: no key" in text
    assert "results.json" in text
    assert "python run.py selector=random" in text


@pytest.mark.parametrize("columns", [1, 3, 6])
def test_a_table_is_as_wide_as_it_says(columns: int) -> None:
    cells = Cells("", ("method", *["tiny_chartqa"] * columns), (("oracle", *["1.0"] * columns),))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(cells.rich())
    assert max(len(line.rstrip()) for line in console.export_text().splitlines()) == cells.width
