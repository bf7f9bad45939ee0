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
from PIL import Image

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import LoggerSettings
from icons_repro.tracking import mirrors
from icons_repro.tracking.about import About, Product, Sheet
from icons_repro.tracking.mirrors import check_loggers
from icons_repro.tracking.tracker import Tracker
from icons_repro.tracking.wandb import answers, has_key, mode_of, run_id

OFFLINE = LoggerSettings(wandb=True)
NAMES = {"setup": "tiny", "experiment": "icons_20pct", "selector": "icons"}
CONFIG = {"budget": 0.2, "selector": {"name": "icons"}, "names": NAMES}


def about(folder: Path, name: str = "n", group: str = "g") -> About:
    return About(folder, name, group, CONFIG, "evaluate", ("tiny", "icons"))


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
    with Tracker(about(tmp_path / "run")) as tracker:
        tracker.replay("finetune", write_stage(tmp_path / "stage.jsonl", 3))
        tracker.replay("select", tmp_path / "nothing.jsonl")
        tracker.summary({"benchmarks": {"vqa": 61.0, "gqa": None}, "relative": {"value": 98.6}})
    found = lines(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in found[:3]] == [1, 2, 3]
    assert found[3] == {
        "stage": "summary", "benchmarks/vqa": 61.0, "benchmarks/gqa": None, "relative/value": 98.6,
    }  # fmt: skip
    assert tracker.describe() == {}


def test_a_stage_logged_live_and_replayed_has_each_step_once(tmp_path: Path) -> None:
    tracker = Tracker(about(tmp_path / "run"))
    tracker.step("warmup", {"step": 1, "loss": 1.0})
    tracker.step("finetune", {"step": 1, "loss": 2.0})
    tracker.replay("warmup", write_stage(tmp_path / "stage.jsonl", 3))
    steps = [(row["stage"], row["step"]) for row in lines(tracker.path)]
    assert steps == [("warmup", 1), ("finetune", 1), ("warmup", 2), ("warmup", 3)]


def test_a_cut_last_line_of_a_stage_is_left_out(tmp_path: Path) -> None:
    stage = write_stage(tmp_path / "stage.jsonl", 3)
    with stage.open("a") as file:
        file.write('{"step": 4, "lo')
    with Tracker(about(tmp_path / "run")) as tracker:
        tracker.replay("finetune", stage)
    assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]


def test_an_offline_wandb_run_reads_back_with_every_number(tmp_path: Path) -> None:
    run_dir = tmp_path / "icons-b0.2-s0-1a2b3c4d"
    with Tracker(about(run_dir, "icons-b0.2-s0", "icons_20pct"), OFFLINE) as tracker:
        tracker.replay("warmup", write_stage(tmp_path / "w.jsonl", 300))
        tracker.replay("finetune", write_stage(tmp_path / "f.jsonl", 2))
        tracker.summary({"benchmarks": {"tiny_vqa": 61.5}, "relative": {"value": 98.6}})
        described = tracker.describe()
    assert described["wandb"]["mode"] == "offline"
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")

    run = wandb_files.run_record(file)
    assert (run.run_id, run.run_group, run.job_type, run.display_name) == (
        run_id(NAMES, run_dir), "icons_20pct", "evaluate", "icons-b0.2-s0",
    )  # fmt: skip
    assert list(run.tags) == ["tiny", "icons"]
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
        with Tracker(about(run_dir), OFFLINE) as tracker:
            tracker.replay("warmup", write_stage(tmp_path / "w.jsonl", 2))
        time.sleep(1.1)  # W&B names a segment by the second it starts in
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    assert len([r for r in wandb_files.history(file) if "warmup/loss" in r]) == 2
    assert run_id(NAMES, run_dir) != run_id(NAMES, tmp_path / "run-9999")


def test_a_broken_wandb_is_one_warning_and_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def broken(**_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(wandb, "init", broken)
    with caplog.at_level(logging.WARNING), Tracker(about(tmp_path), OFFLINE) as tracker:
        tracker.step("warmup", {"step": 1, "loss": 1.0})
        tracker.summary({"a": 1})
    (warning,) = [r.message for r in caplog.records if "W&B is off" in r.message]
    assert "OSError: no space left on device" in warning
    assert "metrics.jsonl has every number" in warning
    assert len(lines(tracker.path)) == 2
    problem = {"mode": "off", "problem": "OSError: no space left on device"}
    assert tracker.describe() == {"wandb": problem}


def test_wandb_failing_midway_does_not_stop_the_run(tmp_path: Path) -> None:
    class Dying:
        url = None

        def log(self, row: dict[str, float]) -> None:
            raise ConnectionError("gone")

        def define_metric(self, *args: Any, **kwargs: Any) -> None:
            pass

    tracker = Tracker(about(tmp_path), OFFLINE)
    (mirror,) = tracker._mirrors
    mirror._run = Dying()  # type: ignore[attr-defined]
    tracker.step("warmup", {"step": 1, "loss": 1.0})
    tracker.step("warmup", {"step": 2, "loss": 0.5})
    assert len(lines(tracker.path)) == 2
    assert tracker.describe()["wandb"]["mode"] == "off"


def test_an_exception_still_closes_the_wandb_run(tmp_path: Path) -> None:
    codes = []

    class Recording:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    def fail() -> None:
        with Tracker(about(tmp_path), OFFLINE) as tracker:
            (mirror,) = tracker._mirrors
            mirror._run = Recording()  # type: ignore[attr-defined]
            raise ValueError("training broke")

    with pytest.raises(ValueError, match="training broke"):
        fail()
    assert codes == [1]


def test_a_key_or_a_netrc_entry_means_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = LoggerSettings(wandb=True, mode="auto")
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
    assert mode_of(LoggerSettings()) == "off"


def test_wandb_shows_nothing_on_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Tracker(about(tmp_path), OFFLINE) as tracker:
        tracker.step("warmup", {"step": 1, "loss": 1.0})
        tracker.describe()
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_importing_the_tracker_does_not_import_wandb() -> None:
    code = "import sys, icons_repro.tracking; print('wandb' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_stage_that_another_run_shows_is_in_the_file_alone(tmp_path: Path) -> None:
    with Tracker(about(tmp_path), OFFLINE, not_shown={"finetune_full"}) as tracker:
        tracker.replay("finetune", write_stage(tmp_path / "s.jsonl", 2))
        tracker.replay("finetune_full", tmp_path / "s.jsonl")
    stages = [line["stage"] for line in lines(tracker.path)]
    assert stages == ["finetune"] * 2 + ["finetune_full"] * 2
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    keys = {key for row in wandb_files.history(file) for key in row}
    assert {"finetune/loss"} <= keys
    assert not [key for key in keys if key.startswith("finetune_full")]


def test_tables_pictures_and_lineage_read_back_from_wandbs_own_records(tmp_path: Path) -> None:
    made = tmp_path / "cache" / "select" / "0123456789abcdef"
    made.mkdir(parents=True)
    (made / "positions.npy").write_bytes(b"x" * 1000)
    (made / "manifest.json").write_text("{}")
    rows = [["top", 3, 0.9, Image.new("RGB", (8, 8)), "what ?", "red"]]
    columns = ("kind", "position", "score", "image", "question", "answer")
    with Tracker(about(tmp_path / "run"), OFFLINE) as tracker:
        tracker.sheet("selection", Sheet(columns, rows))
        step = {"step": "Select", "inputs": {"pool": "fedcba9876543210"}}
        tracker.lineage([Product("select-0123456789abcdef", "select", made, step)])
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    (logged,) = [row for row in wandb_files.history(file) if "selection/_type" in row]
    assert logged["selection/_type"] == "table-file"
    assert (logged["selection/ncols"], logged["selection/nrows"]) == (6, 1)
    table = json.loads((file.parent / "files" / logged["selection/path"]).read_text())
    assert table["data"][0][:3] == ["top", 3, 0.9]
    pictured, artifact = wandb_files.artifacts(file)
    assert [e.path for e in pictured.manifest.contents if e.path.endswith(".png")]
    assert (artifact.name, artifact.type) == ("select-0123456789abcdef", "select")
    assert json.loads(artifact.metadata)["inputs"] == {"pool": "fedcba9876543210"}
    references = [entry.ref for entry in artifact.manifest.contents]
    assert references == [f"{made.absolute().as_uri()}/manifest.json"]
    names = {path.name for path in (tmp_path / "run").rglob("*")}
    assert not names & {"positions.npy", "manifest.json"}


def test_without_a_network_an_online_run_is_offline_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://192.0.2.1")  # answers nobody (RFC 5737)
    began = time.monotonic()
    assert not answers("http://192.0.2.1")
    assert time.monotonic() - began < 5
    monkeypatch.setattr("icons_repro.tracking.wandb.answers", lambda url: False)
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(about(tmp_path), LoggerSettings(wandb=True, mode="online"))
    tracker.finish()
    assert tracker.describe()["wandb"]["mode"] == "offline"
    (warning,) = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert "cannot be reached" in warning


def test_csv_files_of_lightnings_logger_hold_every_step(tmp_path: Path) -> None:
    with Tracker(about(tmp_path), LoggerSettings(csv=True)) as tracker:
        tracker.replay("finetune", write_stage(tmp_path / "s.jsonl", 3))
        tracker.summary({"benchmarks": {"vqa": {"score": 61.0}}})
    text = (tmp_path / "csv" / "metrics.csv").read_text()
    assert "benchmarks/vqa/score" in text.splitlines()[0]
    assert sum("finetune/loss" in line or "0.5" in line for line in text.splitlines()) >= 2
    assert "61.0" in text


def test_a_logger_without_its_package_is_refused_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirrors, "find_spec", lambda name: None)
    for name in ("wandb", "tensorboard", "mlflow"):
        with pytest.raises(ConfigError, match=rf"logger={name} needs .*: pip install") as refused:
            check_loggers(LoggerSettings(**{name: True}))
        assert "\n" not in str(refused.value)
    monkeypatch.setattr(mirrors, "find_spec", lambda name: name != "alembic" or None)
    with pytest.raises(ConfigError, match="logger=mlflow needs alembic"):
        check_loggers(LoggerSettings(mlflow=True))
    check_loggers(LoggerSettings(csv=True, tensorboard=True))
