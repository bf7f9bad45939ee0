"""TensorBoard's and MLflow's own packages, read back by their own readers, where they are there.

Neither is among the pinned requirements: `pip install 'icons-repro[tensorboard,mlflow]'`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icons_repro.core.settings import LoggerSettings
from icons_repro.tracking.about import About
from icons_repro.tracking.tracker import Tracker

CONFIG = {"budget": 0.2, "seed": 0, "selector": {"name": "icons", "percentile": 80}}
SUMMARY = {
    "experiment": "icons_20pct",
    "benchmarks": {"vqa": {"score": 61.5, "n": 24}, "mme": {"score": None, "n": 0}},
    "relative": {"value": 98.6},
}
CURVES = {"warmup": 4, "finetune": 7}


def about(runs: Path, name: str = "icons-b0.2-s0") -> About:
    tags = ("tiny", "20%")
    return About(runs / "tiny" / "test" / name, name, "g", CONFIG, "evaluate", tags, runs)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of runs, since MLflow takes seconds to make a database."""
    return tmp_path_factory.mktemp("runs")


def show(told: About, **loggers: bool) -> dict[str, Any]:
    with Tracker(told, LoggerSettings(**loggers)) as tracker:
        for stage, steps in CURVES.items():
            for step in range(1, steps + 1):
                tracker.step(stage, {"step": step, "loss": 1 / step})
        tracker.summary(SUMMARY)
        return tracker.describe()


def test_tensorboard_shows_every_step_the_settings_and_the_scores(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    hparams = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    told = about(tmp_path)
    for _ in range(2):  # a second run holds all of the first, which is gone
        described = show(told, tensorboard=True)
    assert described == {"tensorboard": {"where": str(told.folder / "tensorboard")}}
    events = reader.EventAccumulator(str(told.folder / "tensorboard"), {"scalars": 0})
    events.Reload()
    for stage, steps in CURVES.items():
        found = events.Scalars(f"{stage}/loss")
        assert [event.step for event in found] == list(range(1, steps + 1))
        assert [event.value for event in found] == pytest.approx([1 / e.step for e in found])
    assert [e.value for e in events.Scalars("benchmarks/vqa/n")] == [24]
    names = set(events.Tags()["scalars"])
    assert {"benchmarks/vqa/score", "relative/value"} <= names
    assert not names & {"hp_metric", "benchmarks/mme/score", "experiment"}
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = hparams.HParamsPluginData.FromString(plugin).session_start_info
    assert start.hparams["selector.name"].string_value == "icons"
    assert start.hparams["budget"].number_value == 0.2
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_mlflow_has_each_run_once_in_one_database(
    tmp_path: Path,
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.chdir(tmp_path)
    for name in ("icons-b0.2-s0", "icons-b0.2-s0", "random-b0.2-s0"):
        described = show(about(runs, name), mlflow=True)
    database = f"sqlite:///{runs / 'mlflow.db'}"
    assert described == {"mlflow": {"where": database}}
    client = tracking.MlflowClient(database)
    experiment = client.get_experiment_by_name("icons-repro")
    found = client.search_runs([experiment.experiment_id], order_by=["tags.mlflow.runName"])
    assert [run.info.run_name for run in found] == ["icons-b0.2-s0", "random-b0.2-s0"]
    run = found[0]
    assert run.info.status == "FINISHED"
    assert run.data.params["selector.percentile"] == "80"
    assert (run.data.tags["group"], run.data.tags["20%"]) == ("g", "true")
    assert run.data.metrics["benchmarks/vqa/score"] == 61.5
    for stage, steps in CURVES.items():
        history = client.get_metric_history(run.info.run_id, f"{stage}/loss")
        assert [point.step for point in history] == list(range(1, steps + 1))
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
    assert not list(tmp_path.iterdir())  # nothing is written to the working directory


def test_a_run_that_breaks_is_failed_in_mlflow(runs: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")

    def fail() -> None:
        with Tracker(about(runs, "broken"), LoggerSettings(mlflow=True)):
            raise ValueError("training broke")

    with pytest.raises(ValueError, match="training broke"):
        fail()
    client = tracking.MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    broken = client.search_runs(ids, "tags.mlflow.runName = 'broken'")
    assert [run.info.status for run in broken] == ["FAILED"]


def test_several_at_once_lose_nothing(runs: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    told = about(runs, "several")
    described = show(told, tensorboard=True, mlflow=True, csv=True)
    assert set(described) == {"tensorboard", "mlflow", "csv"}
    assert all("where" in entry for entry in described.values())
    lines = (told.folder / "metrics.jsonl").read_text().splitlines()
    stages = [json.loads(line)["stage"] for line in lines]
    assert stages == ["warmup"] * 4 + ["finetune"] * 7 + ["summary"]
