"""`experiment=debug_*`: each looks at one thing, quickly, and says where it is to be seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from forked import run_forked
from test_choices import CONF, composed, named

from icons_repro.config.checks import typed
from icons_repro.graph.graph import Graph

PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("debug_*.yaml"))
SETUPS = ["tiny", "llava_665k", "custom"]
WORLD = ["data.world.pool_size=300", "data.world.validation_rows=4", "data.world.test_rows=8"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All presets that train, as one sweep over a small world: the world and the base once."""
    folder = tmp_path_factory.mktemp("debug")
    sweep = "experiment=debug_one_batch,debug_overfit,debug_profile,debug_anomaly"
    environment = os.environ | {"ICONS_OUTPUT": str(folder), "OMP_NUM_THREADS": "1"}
    result = run_forked(["-m", sweep, "selector=random", *WORLD], folder, environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def adapter(output: Path, preset: str) -> Path:
    (path,) = output.glob(f"runs/tiny/{preset}/*/results.json")
    return Path(json.loads(path.read_text())["adapter"])


def losses(output: Path, preset: str) -> list[float]:
    lines = (adapter(output, preset) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def training(output: Path, preset: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((adapter(output, preset) / "training.json").read_text())
    return found


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_goes_with_every_setup(preset: str, setup: str) -> None:
    settings = typed(named(composed(f"setup={setup}", f"experiment={preset}")))
    logger = settings.logger
    assert not any((logger.wandb, logger.tensorboard, logger.mlflow, logger.csv))
    assert settings.reference == "none"
    if preset in ("debug_one_batch", "debug_overfit"):
        assert settings.finetune.rows == settings.finetune.batch_size


def test_a_fast_run_is_small_whatever_the_setup() -> None:
    for setup in SETUPS:
        settings = typed(named(composed(f"setup={setup}", "experiment=debug_fast_run")))
        assert settings.data.world is not None
        assert settings.data.world["pool_size"] == 120
        assert settings.scale == ("tiny" if setup == "tiny" else "own"), "another model's"
        assert settings.benchmarks.local
        assert (settings.finetune.epochs, settings.warmup.train.epochs) == (1, 1)
        large = typed(named(composed(f"setup={setup}")))
        assert settings.model == large.model
        assert settings.finetune.learning_rate == large.finetune.learning_rate


def test_one_batch_takes_one_step(output: Path) -> None:
    found = training(output, "debug_one_batch")
    assert (found["rows"], found["steps"]) == (16, 1)


def test_overfitting_learns_its_batch_by_heart(output: Path) -> None:
    found = losses(output, "debug_overfit")
    assert len(found) == 60
    assert training(output, "debug_overfit")["rows"] == 16
    assert found[-1] < 0.1 * found[0]


def test_the_profile_has_a_line_for_each_part_of_a_step(output: Path) -> None:
    text = (adapter(output, "debug_profile") / "fit-profile.txt").read_text()
    assert "run_training_batch" in text
    assert "optimizer_step" in text


def test_looking_for_an_anomaly_is_the_run_itself_by_the_same_name(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it goes on where the run that failed was stopped."""
    monkeypatch.chdir(tmp_path)
    assert training(output, "debug_anomaly")["job"]["trainer"]["detect_anomaly"]
    plain = typed(named(composed("selector=random", *WORLD)))
    other = typed(named(composed("experiment=debug_anomaly", "selector=random", *WORLD)))
    names = []
    for settings in (plain, other):
        graph = Graph(settings)
        chosen = graph.selection(settings.selector, 0.2, 0)
        names.append(graph.results.adapter(chosen, 0).fingerprint)
    assert names[0] == names[1] == adapter(output, "debug_anomaly").name
