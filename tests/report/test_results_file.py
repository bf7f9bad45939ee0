from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from icons_repro.core.errors import DataError
from icons_repro.report.gather import PageInputs
from icons_repro.report.results import read_results, write_results

CONTRACT = {
    "experiment", "setup", "scale", "selector", "budget", "seed", "n_pool", "n_selected",
    "benchmarks", "relative", "selection", "influence", "adapter", "wandb", "loggers", "stages",
    "pool", "evaluations", "leakage",
}  # fmt: skip


def test_results_json_has_exactly_the_agreed_keys_and_reads_back(
    inputs: PageInputs, tmp_path: Path
) -> None:
    path = write_results(tmp_path, inputs.results)
    assert path == tmp_path / "results.json"
    assert set(json.loads(path.read_text())) == CONTRACT
    assert read_results(tmp_path) == inputs.results
    assert read_results(path) == inputs.results
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "not available"}, "no number, but a reason"),
        ({"score": float("nan")}, "without a finite score"),
        ({"score": None}, "without a finite score"),
    ],
)
def test_a_made_up_score_cannot_be_written(
    inputs: PageInputs, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    broken = {"tiny_vqa": {**inputs.results.benchmarks["tiny_vqa"], **change}}
    with pytest.raises(ValueError, match=message):
        write_results(tmp_path, replace(inputs.results, benchmarks=broken))
    assert not (tmp_path / "results.json").exists()


def test_numbers_that_json_has_not_become_null(inputs: PageInputs, tmp_path: Path) -> None:
    relative = {"value": 97.0, "low": float("nan"), "high": float("inf"), "reference": "full"}
    path = write_results(tmp_path, replace(inputs.results, relative=relative))
    assert json.loads(path.read_text())["relative"]["low"] is None


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match=r"results\.json lacks .*benchmarks"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"setup": ')
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path)
