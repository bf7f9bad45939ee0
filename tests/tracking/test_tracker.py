from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb_files

from icons_repro.core.settings import LoggerSettings
from icons_repro.tracking.tracker import Tracker
from icons_repro.tracking.wandb import has_key, mode_of, run_id

OFFLINE = LoggerSettings(kind="wandb", mode="offline")
CONFIG = {"budget": 0.2, "selector": {"name": "icons"}}


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def write_stage(path: Path, steps: int) -> Path:
    rows = ({"step": i + 1, "loss": 1 / (i + 1), "samples_per_second": 9.0} for i in range(steps))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_metrics_file_holds_steps_and_summary_without_wandb(tmp_path: Path) -> None:
    with Tracker(tmp_path / "run", "n", "g", CONFIG) as tracker:
        tracker.replay("finetune", write_stage(tmp_path / "stage.jsonl", 3))
        tracker.replay("select", tmp_path / "nothing.jsonl")
        tracker.summary({"benchmarks": {"vqa": 61.0, "gqa": None}, "relative": {"value": 98.6}})
    found = lines(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in found[:3]] == [1, 2, 3]
    assert found[3] == {
        "stage": "summary", "benchmarks/vqa": 61.0, "benchmarks/gqa": None, "relative/value": 98.6,
    }  # fmt: skip
    assert tracker.describe() == {"mode": "off"}


def test_a_stage_logged_live_and_replayed_has_each_step_once(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "run", "n", "g", CONFIG)
    tracker.step("warmup", {"step": 1, "loss": 1.0})
    tracker.step("finetune", {"step": 1, "loss": 2.0})
    tracker.replay("warmup", write_stage(tmp_path / "stage.jsonl", 3))
    steps = [(row["stage"], row["step"]) for row in lines(tracker.path)]
    assert steps == [("warmup", 1), ("finetune", 1), ("warmup", 2), ("warmup", 3)]


def test_a_cut_last_line_of_a_stage_is_left_out(tmp_path: Path) -> None:
    stage = write_stage(tmp_path / "stage.jsonl", 3)
    with stage.open("a") as file:
        file.write('{"step": 4, "lo')
    with Tracker(tmp_path / "run", "a", "g", {}) as tracker:
        tracker.replay("finetune", stage)
    assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]


def test_an_offline_wandb_run_reads_back_with_every_number(tmp_path: Path) -> None:
    run_dir = tmp_path / "icons-b0.2-s0-1a2b3c4d"
    with Tracker(run_dir, "icons-b0.2-s0", "icons_20pct", CONFIG, OFFLINE) as tracker:
        tracker.replay("warmup", write_stage(tmp_path / "w.jsonl", 300))
        tracker.replay("finetune", write_stage(tmp_path / "f.jsonl", 2))
        tracker.summary({"benchmarks": {"tiny_vqa": 61.5}, "relative": {"value": 98.6}})
        described = tracker.describe()
    assert described["mode"] == "offline"
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")

    run = wandb_files.run_record(file)
    assert (run.run_id, run.run_group, run.job_type, run.display_name) == (
        run_id("icons_20pct", run_dir), "icons_20pct", "experiment", "icons-b0.2-s0",
    )  # fmt: skip
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["budget"] == 0.2
    rows = wandb_files.history(file)
    losses = [row["warmup/loss"] for row in rows if "warmup/loss" in row]
    assert losses == pytest.approx([1 / (i + 1) for i in range(300)])
    assert [row["finetune/step"] for row in rows if "finetune/step" in row] == [1, 2]
    assert any(row.get("benchmarks/tiny_vqa") == 61.5 for row in rows)
    assert wandb_files.summary(file)["relative/value"] == 98.6


def test_running_again_keeps_one_segment_with_the_same_id(tmp_path: Path) -> None:
    run_dir = tmp_path / "run-1234"
    for _ in range(2):
        with Tracker(run_dir, "n", "g", CONFIG, OFFLINE) as tracker:
            tracker.replay("warmup", write_stage(tmp_path / "w.jsonl", 2))
        time.sleep(1.1)  # W&B names a segment by the second it starts in
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    assert len([r for r in wandb_files.history(file) if "warmup/loss" in r]) == 2
    assert run_id("g", run_dir) != run_id("g", tmp_path / "run-9999")


def test_a_broken_wandb_is_one_warning_and_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def broken(**_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(wandb, "init", broken)
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, "n", "g", CONFIG, OFFLINE) as tracker:
        tracker.step("warmup", {"step": 1, "loss": 1.0})
        tracker.summary({"a": 1})
    (warning,) = [r.message for r in caplog.records if "W&B is off" in r.message]
    assert "OSError: no space left on device" in warning
    assert "metrics.jsonl has every number" in warning
    assert len(lines(tracker.path)) == 2
    assert tracker.describe() == {"mode": "off", "problem": "OSError: no space left on device"}


def test_wandb_failing_midway_does_not_stop_the_run(tmp_path: Path) -> None:
    class Dying:
        url = None

        def log(self, row: dict[str, float]) -> None:
            raise ConnectionError("gone")

        def define_metric(self, *args: Any, **kwargs: Any) -> None:
            pass

    tracker = Tracker(tmp_path, "n", "g", CONFIG)
    tracker._wandb.mode, tracker._wandb._run = "offline", Dying()
    tracker.step("warmup", {"step": 1, "loss": 1.0})
    tracker.step("warmup", {"step": 2, "loss": 0.5})
    assert len(lines(tracker.path)) == 2
    assert tracker.describe()["mode"] == "off"


def test_an_exception_still_closes_the_wandb_run(tmp_path: Path) -> None:
    codes = []

    class Recording:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    def fail() -> None:
        with Tracker(tmp_path, "n", "g", CONFIG) as tracker:
            tracker._wandb.mode, tracker._wandb._run = "offline", Recording()
            raise ValueError("training broke")

    with pytest.raises(ValueError, match="training broke"):
        fail()
    assert codes == [1]


def test_a_key_or_a_netrc_entry_means_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = LoggerSettings(kind="wandb", mode="auto")
    assert not has_key()
    assert mode_of(auto) == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert mode_of(auto) == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert mode_of(auto) == "online"
    assert mode_of(OFFLINE) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode_of(auto) == "off"
    assert mode_of(LoggerSettings(kind="none")) == "off"


def test_wandb_shows_nothing_on_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Tracker(tmp_path, "n", "g", CONFIG, OFFLINE) as tracker:
        tracker.step("warmup", {"step": 1, "loss": 1.0})
        tracker.describe()
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_importing_the_tracker_does_not_import_wandb() -> None:
    code = "import sys, icons_repro.tracking; print('wandb' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
