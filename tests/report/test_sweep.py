from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from icons_repro.core.errors import UserError
from icons_repro.report.__main__ import main
from icons_repro.report.gather import PageInputs
from icons_repro.report.results import write_results
from icons_repro.report.sweep import SweepRun, collect, sweep_rows, sweep_tables


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
    tables = sweep_tables(sweep_rows([SweepRun(inputs.results), SweepRun(paper)]))
    assert len(tables) == 2
    texts = [table.markdown() for table in tables]
    assert sum("llava_665k" in text for text in texts) == 1


def test_a_seed_without_a_reference_gives_no_mean(inputs: PageInputs) -> None:
    other = replace(inputs.results, seed=1, relative=None)
    (row,) = sweep_rows([SweepRun(inputs.results), SweepRun(other)])
    assert row.relative is None


def runs(inputs: PageInputs, folder: Path, **settings: Any) -> None:
    """Write a run at each of three seeds, with its own config.yaml."""
    for seed in range(3):
        out = folder / f"{settings['rule']}{seed}{settings.get('later', '')}"
        out.mkdir(parents=True)
        selector = {"rule": settings["rule"], "tasks": settings.get("later")}
        tree = {"seed": seed, "selector": selector, "paths": {"run": str(out)}}
        (out / "config.yaml").write_text(yaml.safe_dump(tree))
        score = settings["score"] + seed
        ok = inputs.results.benchmarks["tiny_vqa"]
        found = replace(
            inputs.results,
            seed=seed,
            adapter=f"cache/finetune/{settings['rule']}{seed}",
            benchmarks={"tiny_vqa": {**ok, "score": score}},
            relative={
                "value": score,
                "above_blind": {"value": score - 10},
                "compared_with": {"full": {"tiny_vqa": 90.0 + seed}, "blind": {"tiny_vqa": 20.0}},
            },
        )
        write_results(out, found)


def test_variants_of_a_selector_are_rows_of_their_own_best_first(
    inputs: PageInputs, tmp_path: Path
) -> None:
    runs(inputs, tmp_path, rule="mean", score=50.0)
    runs(inputs, tmp_path, rule="vote", score=60.0)
    rows = sweep_rows(collect([tmp_path]))
    assert [row.method for row in rows] == ["full", "icons, rule=vote", "icons, rule=mean", "blind"]
    assert [len(row.seeds) for row in rows] == [3, 3, 3, 3]
    (table,) = sweep_tables(rows)
    assert table.rows[0] == ("full", "1", "3", "100.0", "100.0", "91.0 ±2.5")
    assert table.rows[2] == ("icons, rule=mean", "0.2", "3", "51.0 ±2.5", "41.0 ±2.5", "51.0 ±2.5")
    assert table.rows[3] == ("blind", "-", "3", "-", "0.0", "20.0 ±0.0")


def test_a_repeated_run_counts_once(inputs: PageInputs, tmp_path: Path) -> None:
    runs(inputs, tmp_path, rule="vote", score=60.0)
    runs(inputs, tmp_path, rule="vote", score=60.0, later="all")  # a setting that changed nothing
    assert [row.seeds for row in sweep_rows(collect([tmp_path]))] == [(0, 1, 2)] * 3


def test_references_that_differ_between_runs_are_not_shown_as_one(inputs: PageInputs) -> None:
    relative = {"value": 90.0, "compared_with": {"full": {"tiny_vqa": 80.0}}}
    mine = replace(inputs.results, adapter="a", relative=relative)
    relative = {"value": 80.0, "compared_with": {"full": {"tiny_vqa": 81.0}}}
    other = replace(mine, adapter="b", selector="less", relative=relative)
    assert [r.method for r in sweep_rows([SweepRun(mine), SweepRun(other)])] == ["icons", "less"]


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
    main(["--markdown", str(tmp_path)])
    assert "| icons | 0.2 | 1 | 97.0 | - | 61.0 |" in capsys.readouterr().out
