"""Training over the two nodes of a real SLURM, and a sweep from one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from slurm_client import Slurm

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.settings import (
    DataSettings,
    ExecutorSettings,
    LoraSettings,
    ModelSettings,
    RecordPolicy,
    TrainerSettings,
    TrainSettings,
)
from icons_repro.core.step_json import to_json
from icons_repro.data.stage import Pool
from icons_repro.engine.ledger import Ledger
from icons_repro.engine.resources import Resources
from icons_repro.engine.slurm import SlurmExecutor
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.stage import World, tiny_base
from icons_repro.training.stage import SliceWarmUp

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
SMALL = [
    *("data.world.pool_size=240", "data.world.test_rows=12", "data.world.validation_rows=8"),
    *("benchmarks.only=[tiny_pope,tiny_vqa]", "finetune.epochs=1", "logger=none"),
    *("projection.dim=256", "finetune.micro_batch=8"),
]


def warmup(tmp_path: Path, trainer: TrainerSettings) -> SliceWarmUp:
    world = World(settings=WorldSettings(pool_size=300, validation_rows=8, test_rows=8))
    return SliceWarmUp(
        base=tiny_base(ModelSettings(kind="tiny"), tmp_path / "files.json"),
        pool=Pool(policy=RecordPolicy(), world=world),
        train=TrainSettings(batch_size=8, micro_batch=4, learning_rate=1e-3),
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        encoding=DataSettings(max_length=128),
        trainer=trainer,
        fraction=0.2,
        seed=0,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What one process that accumulates makes of it, in a cache of its own."""
    folder = tmp_path_factory.mktemp("alone")
    return weights(obtain(warmup(folder, TrainerSettings()), Cache(folder / "cache")))


TWO_NODES = TrainerSettings(num_nodes=2, strategy="ddp")


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


def test_the_executor_trains_over_two_nodes(
    slurm: Slurm, tmp_path: Path, alone: dict[str, torch.Tensor]
) -> None:
    step = warmup(tmp_path, TWO_NODES)
    cache = Cache(tmp_path / "cache")
    for read in (step.base, step.pool):
        obtain(read, cache)
    settings = ExecutorSettings(kind="slurm", poll_seconds=0.5, hours=0.1)
    table = {"warmup": Resources(cpus=1, gpus=0, nodes=2)}
    ledger = Ledger([step], cache)
    SlurmExecutor(settings, table).run(ledger)
    assert not ledger.failures, ledger.failures[0].cause
    assert close(weights(cache.path(step)), alone)


def test_srun_on_two_nodes_trains_one_step(
    slurm: Slurm, tmp_path: Path, alone: dict[str, torch.Tensor]
) -> None:
    step = warmup(tmp_path, TWO_NODES)
    cache = Cache(tmp_path / "cache")
    for read in (step.base, step.pool):
        obtain(read, cache)
    (tmp_path / "step.json").write_text(to_json(step))
    command = [sys.executable, "-m", "icons_repro.step", str(tmp_path / "step.json")]
    found = subprocess.run(
        ["srun", "-N2", "--ntasks-per-node=1", *command, "--cache", str(cache.root)],
        env={**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert close(weights(cache.path(step)), alone)


def test_a_sweep_from_one_command_ends_with_one_table(slurm: Slurm, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, str(ROOT / "run.py"), "-m", "experiment=icons_20pct"),
            *("selector=icons,random", "budget=0.2", "executor=slurm"),
            *("executor.poll_seconds=1", "resources.extract.chunks=2", *SMALL),
        ],
        env={**os.environ, "ICONS_OUTPUT": str(tmp_path), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    titles = [s for line in result.stdout.splitlines() if "(tiny scale)" in (s := line.strip())]
    assert titles == ["tiny (tiny scale), 20% of the pool"]
    assert "this run" not in result.stdout, "no job has an end table of its own"
    assert result.stdout.rindex("(tiny scale)") < result.stdout.index("Files")
    found = [json.loads(path.read_text()) for path in tmp_path.glob("runs/tiny/*/*/results.json")]
    assert sorted(run["selector"] for run in found) == ["icons", "random"]
    assert all(run["relative"] for run in found)
    for stage in ("world", "pool", "base", "warmup", "gradients", "influence"):
        assert len(list(tmp_path.glob(f"cache/{stage}/*/manifest.json"))) == 1, stage
