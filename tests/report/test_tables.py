from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from icons_repro.core.errors import UserError
from icons_repro.evaluation.relative import Relative
from icons_repro.report.__main__ import main
from icons_repro.report.gather import PageInputs
from icons_repro.report.results import write_results
from icons_repro.report.summary import print_summary
from icons_repro.report.tables import collect, end_table, sweep_rows, sweep_tables


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


def test_sweep_rows_average_over_seeds(inputs: PageInputs, tmp_path: Path) -> None:
    for seed, value in enumerate((95.0, 97.0, 99.0)):
        relative = {"value": value, "low": None, "high": None, "reference": "full"}
        (tmp_path / f"s{seed}").mkdir()
        write_results(tmp_path / f"s{seed}", replace(inputs.results, seed=seed, relative=relative))
    (row,) = sweep_rows(collect([tmp_path]))
    assert row.seeds == (0, 1, 2)
    assert row.relative is not None
    mean, low, high = row.relative
    assert (mean, round(high - mean, 2)) == (97.0, 4.97)
    assert round(mean - low, 2) == 4.97
    assert set(row.benchmarks) == {"tiny_vqa"}, "what no seed could score has no mean"


def test_tiny_and_paper_numbers_never_share_a_table(inputs: PageInputs) -> None:
    paper = replace(inputs.results, setup="llava_665k", scale="paper")
    tables = sweep_tables(sweep_rows([inputs.results, paper]))
    assert len(tables) == 2
    texts = [shown(table) for table in tables]
    assert sum("llava_665k" in text for text in texts) == 1


def test_a_seed_without_a_reference_gives_no_mean(inputs: PageInputs) -> None:
    (row,) = sweep_rows([inputs.results, replace(inputs.results, seed=1, relative=None)])
    assert row.relative is None


def test_the_command_prints_the_sweep_or_says_what_is_missing(
    inputs: PageInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"no results\.json below"):
        main([str(tmp_path)])
    with pytest.raises(UserError):
        collect([tmp_path])
    write_results(tmp_path, inputs.results)
    main([str(tmp_path)])
    assert "icons" in capsys.readouterr().out
