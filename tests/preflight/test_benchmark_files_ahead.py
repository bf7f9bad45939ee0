"""Preflight reads what the run would read after hours of training."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from graphs import composed
from safetensors.numpy import save_file

from icons_repro.config.checks import typed
from icons_repro.core.errors import ConfigError
from icons_repro.preflight.files import check_local_benchmarks, checkpoint_problem
from icons_repro.preflight.run import _benchmarks

ROW = {"question_id": "q", "image": None, "question": "what ?", "answer": "red"}


def write(folder: Path, name: str, **changed: object) -> None:
    row = {key: value for key, value in (ROW | changed).items() if value != "leave out"}
    pq.write_table(pa.Table.from_pylist([row]), folder / f"{name}.parquet")


def test_each_local_benchmark_is_read_and_a_bad_one_named(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "bad", question_id="leave out")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    found = {finding.what: finding for finding in check_local_benchmarks(tmp_path, None)}
    assert found["benchmark good"].level == "ok"
    assert found["benchmark bad"].level == "problem"
    assert "question_id" in found["benchmark bad"].found
    assert "cut.parquet" in found["benchmark cut"].found
    (missing,) = check_local_benchmarks(tmp_path, ["absent"])
    assert missing.level == "problem"


def test_an_empty_folder_of_benchmarks_is_a_problem(tmp_path: Path) -> None:
    (finding,) = check_local_benchmarks(tmp_path, None)
    assert finding.level == "problem"


def test_preflight_reads_the_benchmarks_that_the_run_would_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bad", question_id="leave out")
    own = ("data=custom", "data.json=pool.json", "stages=[preflight]")

    def levels(folder: Path) -> dict[str, str]:
        config = typed(composed(*own, f"benchmarks.folder={folder}"))
        return {finding.what: finding.level for finding in _benchmarks(config, tmp_path / "cache")}

    assert levels(tmp_path)["benchmark bad"] == "problem"
    with pytest.raises(ConfigError, match=r"benchmarks\.folder"):
        levels(tmp_path / "nowhere")


def test_a_cut_checkpoint_is_found_by_its_headers(tmp_path: Path) -> None:
    assert checkpoint_problem(tmp_path) == "the folder has no config.json"
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint_problem(tmp_path) == "the folder has no weights"
    save_file({"a": np.zeros(1000, np.float32)}, tmp_path / "model-1.safetensors")
    assert checkpoint_problem(tmp_path) is None
    weights = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    assert checkpoint_problem(tmp_path) == "model-2.safetensors is missing"
    index.unlink()
    whole = (tmp_path / "model-1.safetensors").read_bytes()
    (tmp_path / "model-1.safetensors").write_bytes(whole[:-100])
    assert "model-1.safetensors cannot be read" in str(checkpoint_problem(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert checkpoint_problem(tmp_path) == "config.json is no JSON"
