import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import run_forked
from rich.console import Console

from icons_repro.core.settings import TrainerSettings
from icons_repro.preflight.findings import Finding, print_findings, would_fail
from icons_repro.preflight.machine import (
    check_devices,
    check_disk,
    check_memory,
    check_shared_memory,
    check_versions,
)


def test_only_a_problem_would_make_the_run_fail() -> None:
    assert not would_fail([Finding("ok", "a", "b"), Finding("warning", "a", "b")])
    assert would_fail([Finding("ok", "a", "b"), Finding("problem", "a", "b")])


def test_disk_is_compared_with_what_every_stage_writes(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    assert check_disk(folder, {"extract": 1e3})[0].level == "ok"
    too_much = check_disk(folder, {"base": 1e18, "extract": 1e18})[0]
    assert too_much.level == "problem"
    assert "ICONS_OUTPUT" in too_much.remedy


def test_memory_and_devices_are_compared_with_the_plan() -> None:
    assert check_memory(1e6)[0].level == "ok"
    assert check_memory(1e18)[0].level == "problem"
    assert (
        check_devices(TrainerSettings(), {"training": 1e18})[0].level == "ok"
    )  # no accelerator: not asked
    many = TrainerSettings(accelerator="gpu", devices=4096)
    assert check_devices(many, {})[0].level == "problem"


def test_a_containers_shared_memory_is_said_where_several_devices_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = TrainerSettings(accelerator="gpu", devices=2)
    assert not check_shared_memory(TrainerSettings(), tmp_path)
    assert not check_shared_memory(TrainerSettings(accelerator="gpu"), tmp_path)
    assert not check_shared_memory(two, tmp_path / "nowhere")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=64 << 20))
    (found,) = check_shared_memory(two, tmp_path)
    assert found.level == "warning"
    assert "67 MB" in found.found
    assert "--shm-size" in found.remedy
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=8 << 30))
    assert check_shared_memory(two, tmp_path)[0].level == "ok"


def test_gpus_without_bfloat16_are_a_problem_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SimpleNamespace(total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    found = check_devices(
        TrainerSettings(accelerator="gpu", model_dtype="bfloat16"), {"training": 1e9}
    )[0]
    assert found.level == "problem"
    assert "Tesla T4" in found.found
    assert check_devices(TrainerSettings(accelerator="gpu"), {"training": 1e9})[0].level == "ok"


def test_versions_are_said() -> None:
    assert "torch" in check_versions()[0].found


def test_the_page_has_a_line_for_each_finding_and_a_verdict() -> None:
    console = Console(record=True, width=120)
    print_findings([Finding("problem", "disk", "full", "free some")], console)
    text = console.export_text()
    assert "free some" in text
    assert "would fail" in text


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [("red", 0, "Nothing would stop the run"), ("", 1, "no turn from 'gpt' has any text")],
)
def test_the_stage_says_by_its_exit_code_whether_the_run_would_fail(
    answer: str, code: int, said: str, tmp_path: Path
) -> None:
    turns = [{"from": "human", "value": "what color"}, {"from": "gpt", "value": answer}]
    for name in ("pool.json", "targets/task.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps([{"conversations": turns}]))
    question = {"question_id": "q", "image": None, "question": "pips on dominoes", "answer": "red"}
    (tmp_path / "tests").mkdir()
    pq.write_table(pa.Table.from_pylist([question]), tmp_path / "tests" / "mine.parquet")
    overrides = ["data=custom", "data.json=pool.json", "data.images=.", "targets.images=."]
    overrides += ["benchmarks.folder=tests"]
    words = ["stages=[preflight]", "targets.folder=targets", *overrides]
    result = run_forked(words, tmp_path, {**os.environ, "COLUMNS": "200"})
    assert result.returncode == code, result.stderr
    assert said in result.stdout
    if code == 0:  # the tiny model's words are few, and the benchmark's question is none of them
        assert "take a model that can read it" in result.stdout
    assert "Traceback" not in result.stderr
