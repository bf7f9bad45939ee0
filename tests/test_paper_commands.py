"""Commands that follow one another as the pages give them share all that they have in common."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = (
    *("data.world.pool_size=120", "data.world.test_rows=8", "data.world.validation_rows=4"),
    *("finetune.epochs=1", "finetune.micro_batch=8", "warmup.train.micro_batch=8"),
    *("stages=[finetune]", "reference=none", "logger=none"),
)
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
pytestmark = pytest.mark.e2e


def run(output: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, *SMALL],
        env=os.environ | {"ICONS_OUTPUT": str(output), "OMP_NUM_THREADS": "1"},
        cwd=output,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def made(output: Path) -> dict[str, list[str]]:
    """Steps by stage, each with when it was made."""
    found: dict[str, list[str]] = {}
    for path in sorted(output.glob("cache/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        found.setdefault(manifest["stage"], []).append(f"{path.parent.name} {manifest['created']}")
    return found


def test_two_devices_two_workers_and_one_process_compute_each_stage_once(tmp_path: Path) -> None:
    """Full data on two devices, a sweep by two workers, then the sweep's run on two devices."""
    run(tmp_path, "experiment=full", *TWO)
    run(tmp_path, "-m", "selector=icons,random", "executor=local", "workers=2")
    before = made(tmp_path)
    assert {stage: len(steps) for stage, steps in before.items()} == {
        **dict.fromkeys(("world", "pool", "targets", "base", "warmup"), 1),
        **dict.fromkeys(("gradients", "target_gradients", "influence"), 1),
        **{"select": 3, "finetune": 3},
    }
    run(tmp_path, "selector=icons", *TWO)
    run(tmp_path, "selector=random")
    assert made(tmp_path) == before
