"""Several processes train as one does, die as one, and stop and go on when told to."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_process import forked_fit
from notices import noticed, with_srun
from safetensors.torch import load_file

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.settings import DataSettings, LoraSettings, TrainerSettings, TrainSettings
from icons_repro.core.stop import STOPPED
from icons_repro.data.records import RecordTable
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob

pytestmark = pytest.mark.usefixtures("one_thread")
TWO = TrainerSettings(devices=2, strategy="ddp")
SHARDED = TrainerSettings(devices=2, strategy="fsdp2")


@pytest.fixture(scope="module")
def job(tiny_base: Path, small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> FitJob:
    """64 rows, a quarter of them text alone, so that whole batches have no image."""
    images = RecordTable(small_world / "pool" / "records.arrow").image_counts
    shown, text = np.flatnonzero(images > 0)[:48], np.flatnonzero(images == 0)[:16]
    positions = tmp_path_factory.mktemp("rows") / "positions.npy"
    np.save(positions, np.sort(np.concatenate([shown, text])))
    return FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(positions),
        seed=3,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.1),
        train=TrainSettings(
            batch_size=8,
            micro_batch=4,
            learning_rate=1e-3,
            projector_learning_rate=1e-3,
            epochs=2,
            gradient_checkpointing=True,
        ),
        data=DataSettings(max_length=128),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[FitJob], Path]:
    """Train a job, once for all tests that only read what it makes."""
    made: dict[FitJob, Path] = {}

    def once(job: FitJob) -> Path:
        if job not in made:
            out = tmp_path_factory.mktemp("trained")
            fit(job, out)
            made[job] = out
        return made[job]

    return once


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter_model.safetensors") | load_file(out / "projector.safetensors")


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=1e-4) for k in a)


def losses(out: Path) -> list[float]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def moved(a: Path, b: Path, start: Path) -> float:
    """Return how far two adapters are apart, as a share of the projector's way from its start."""
    first = {
        name.split("multi_modal_projector.")[1]: value
        for name, value in load_file(start / "model.safetensors").items()
        if "multi_modal_projector." in name
    }
    one, two = (load_file(out / "projector.safetensors") for out in (a, b))
    way = sum(float((one[n] - first[n]).square().sum()) for n in one) ** 0.5
    return sum(float((one[n] - two[n]).square().sum()) for n in one) ** 0.5 / way


def test_two_devices_train_as_one_that_accumulates_with_text_only_rows(
    job: FitJob,
    trained: Callable[[FitJob], Path],
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And say nothing of third parties', whom threads, `srun` and checkpointing provoke."""
    one = trained(job)
    monkeypatch.setenv("PATH", str(with_srun(tmp_path)), prepend=os.pathsep)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # torchrun would tell what it chose
    capfd.readouterr()
    two = trained(replace(job, trainer=TWO))
    said = "".join(capfd.readouterr())
    assert not noticed(said), said[-3000:]
    assert moved(one, two, tiny_base) < 1e-3  # it was .06 where only two devices heard of no image
    a, b = weights(one), weights(two)
    assert all(torch.allclose(a[k], b[k], atol=1e-4) for k in a)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert len(losses(one)) == 16


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_agents_started_by_hand_train_as_two_devices_of_one_node(
    job: FitJob, trained: Callable[[FitJob], Path], tmp_path: Path
) -> None:
    together, apart = trained(replace(job, trainer=TWO)), folder(tmp_path, "apart")
    nodes = replace(job, trainer=TrainerSettings(devices=1, num_nodes=2, strategy="ddp"))
    (tmp_path / "job.json").write_text(nodes.to_json())
    (tmp_path / "run.py").write_text(HAND)
    port = free_port()
    agents = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                *("--nproc_per_node", "1", "--node_rank", str(rank)),
                *("--master_addr", "127.0.0.1", "--master_port", str(port)),
                *("--rdzv_id", "by-hand", str(tmp_path / "run.py")),
                *(str(tmp_path / "job.json"), str(apart)),
            ],
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    for agent in agents:
        _, errors = agent.communicate(timeout=120)
        assert agent.returncode == 0, errors.decode()[-2000:]
    a, b = weights(together), weights(apart)
    assert all(torch.equal(a[k], b[k]) for k in a)


HAND = """
import os, sys
from pathlib import Path
from icons_repro.core.stop import leave
from icons_repro.training.worker import join
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob
out = Path(sys.argv[2])
if int(os.environ["RANK"]):
    (out.parent / "step.rank.part").is_symlink() or (out.parent / "step.rank.part").symlink_to(out)
    join(out.parent / "step", lambda: (out / "training.json").is_file())
else:
    fit(FitJob.from_json(Path(sys.argv[1]).read_text()), out)
leave(0)
"""


def ranks(out: Path) -> list[int]:
    """Return the processes that train into `out`."""
    look = ["pgrep", "-f", f"python.* -m icons_repro.training.worker .* {out}$"]
    found = subprocess.run(look, capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def test_fsdp2_begins_as_one_device_does_and_a_rank_that_cannot_save_is_named_with_its_cause(
    job: FitJob, tmp_path: Path
) -> None:
    out = folder(tmp_path, "unsaved")
    endless = replace(job, train=replace(job.train, epochs=500))
    begin = folder(tmp_path, "begin")
    fit(replace(endless, stop_after=3), begin)
    with forked_fit(replace(endless, trainer=SHARDED), out) as process:
        while not (out / "metrics.jsonl").exists() or len(losses(out)) < 3:
            time.sleep(0.1)
            assert process.runs()
        for rank in ranks(out):  # no file may become larger than this
            resource.prlimit(rank, resource.RLIMIT_FSIZE, (100_000, 100_000))
        os.kill(process.pid, signal.SIGTERM)
        assert process.ended() not in (0, STOPPED)
        error = process.said().splitlines()[-1]
    assert "RankError: rank 0" in error
    assert "File too large" in error
    assert not list(out.glob("failed-*"))
    assert losses(out)[:3] == pytest.approx(losses(begin), rel=1e-3)


def test_a_dead_rank_ends_the_run_in_one_line_within_a_minute_and_a_rerun_goes_on(
    job: FitJob, tmp_path: Path, tiny_base: Path
) -> None:
    out = folder(tmp_path, "dead")
    recipe = replace(job.train, epochs=500, resume_seconds=0.2)
    endless = replace(job, train=recipe, trainer=TWO)
    started = time.monotonic()
    with forked_fit(endless, out) as process:
        while not (out / "metrics.jsonl").exists() or len(losses(out)) < 3:
            time.sleep(0.1)
            assert process.runs()
        killed = time.monotonic()
        os.kill(ranks(out)[-1], signal.SIGKILL)
        assert process.ended() not in (0, STOPPED)
        assert time.monotonic() - killed < 60 < 60 + started
        errors = process.said()
    assert "a worker died" in errors.splitlines()[-1]
    assert (out / "resume.ckpt").is_file()
    stop = replace(endless, trainer=TrainerSettings(), stop_after=len(losses(out)) + 2)
    goes_on_as_if_whole(stop, out, folder(tmp_path, "whole"), tiny_base)


def goes_on_as_if_whole(job: FitJob, cut: Path, whole: Path, start: Path) -> None:
    """Go on in `cut` on one device or two, and compare with one device from the beginning."""
    fit(job, cut)
    fit(replace(job, trainer=TrainerSettings()), whole)
    assert len(losses(cut)) == job.stop_after
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-3)
    assert moved(cut, whole, start) < 1e-2


def begun_on_one_device(job: FitJob, out: Path, scratch: Path) -> None:
    """Leave in `out` what a run on one device leaves that dies in its fourth step."""
    job = replace(job, train=replace(job.train, resume_seconds=0.0), stop_after=5)

    def keep(line: dict[str, float]) -> None:
        if line["step"] == 4:  # the resume point is that of step 3
            shutil.copy(scratch / "resume.ckpt", out)
            shutil.copy(scratch / "metrics.jsonl", out)

    fit(job, scratch, keep)


def long(job: FitJob) -> FitJob:
    """Return a job that can be told to stop in its middle."""
    return replace(job, train=replace(job.train, epochs=6), keep_epochs=True)


def stopped(job: FitJob, out: Path, number: signal.Signals) -> str:
    """Train until five steps are done, signal all of its processes, and return what is said."""
    with forked_fit(job, out) as process:
        while not (out / "metrics.jsonl").exists() or len(losses(out)) < 5:
            time.sleep(0.02)
            assert process.runs()
        asked = time.time()
        os.killpg(process.pid, number)
        code, errors = process.ended(), process.said()
    assert code == STOPPED, errors[-2000:]
    point = out / "resume.ckpt"
    assert 0 <= point.stat().st_mtime - asked < 20, errors[-9000:]
    assert torch.load(point, weights_only=True)["global_step"] == len(losses(out))
    assert 5 <= len(losses(out)) < 8 * job.train.epochs
    return errors


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_saves_and_goes_on_to_the_same_weights(
    job: FitJob, trained: Callable[[FitJob], Path], tmp_path: Path, number: signal.Signals
) -> None:
    job = long(job)
    whole, cut = trained(job), folder(tmp_path, "cut")
    assert f"stopped by {number.name}" in stopped(job, cut, number)
    fit(job, cut)
    assert len(losses(cut)) == 48
    a, b = weights(whole), weights(cut)
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("trainer", "number", "others"),
    [
        (TWO, signal.SIGTERM, [TrainerSettings()]),
        (SHARDED, signal.SIGUSR1, [SHARDED, TrainerSettings()]),
    ],
    ids=["ddp", "fsdp2"],
)
def test_a_run_goes_on_with_other_devices_from_where_each_was_told_to_stop(
    job: FitJob,
    trained: Callable[[FitJob], Path],
    tmp_path: Path,
    trainer: TrainerSettings,
    number: signal.Signals,
    others: list[TrainerSettings],
) -> None:
    """What comes out is what one device that accumulates makes of it, to rounding.

    Devices are no part of a run's name: whoever has GPUs takes up what one began, with the batches
    that come next.
    """
    job = long(job)
    alone, cut = trained(job), folder(tmp_path, "cut")
    begun_on_one_device(job, cut, folder(tmp_path, "first"))
    stopped(replace(job, trainer=trainer), cut, number)
    before = losses(cut)
    assert before == pytest.approx(losses(alone)[: len(before)], rel=1e-3)
    for i, then in enumerate(others):
        out = tmp_path / f"then{i}"
        shutil.copytree(cut, out)
        fit(replace(job, trainer=then), out)
        assert losses(out)[: len(before)] == before
        assert losses(out) == pytest.approx(losses(alone), rel=1e-2)
        for name in (".", "epoch_5"):
            assert close(weights(out / name), weights(alone / name))
        moments = (load_file(folder / "optimizer.safetensors") for folder in (out, alone))
        assert close(*moments)


def test_what_cannot_be_spread_over_devices_is_refused_before_they_start(
    job: FitJob, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"fsdp2 spreads over devices: set trainer\.devices"):
        fit(replace(job, trainer=TrainerSettings(strategy="fsdp2")), tmp_path)
    with pytest.raises(ConfigError, match="fsdp2 trains LoRA alone"):
        fit(replace(job, trainer=SHARDED, lora=None), tmp_path)
    with pytest.raises(ConfigError, match=r"8 does not divide into 3 device\(s\) x micro-batches"):
        fit(replace(job, trainer=replace(TWO, devices=3)), tmp_path)


def test_several_nodes_without_a_cluster_say_how_to_start_them(
    job: FitJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes=2 needs a SLURM allocation"):
        fit(replace(job, trainer=TrainerSettings(num_nodes=2)), folder(tmp_path, "out"))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    with pytest.raises(UserError, match=r"num_nodes=2, but job 7 has 1 node"):
        fit(replace(job, trainer=TrainerSettings(num_nodes=2)), folder(tmp_path, "out2"))
