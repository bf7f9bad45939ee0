import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_process import forked_fit
from safetensors.torch import load_file

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.settings import DataSettings, LoraSettings, TrainSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, load_adapter
from icons_repro.training.checkpoint import epoch_rates, load_moments
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob, plan_schedule

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(tiny_base: Path, small_world: Path, tmp_path: Path) -> FitJob:
    np.save(tmp_path / "positions.npy", np.arange(64))
    return FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=3,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.1),
        train=TrainSettings(
            batch_size=8, micro_batch=4, learning_rate=3e-3, projector_learning_rate=1e-3
        ),
        data=DataSettings(max_length=128),
    )


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


def loss_of(model: torch.nn.Module, job: FitJob) -> float:
    dataset, collate = open_dataset(
        Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
    )
    batch = collate([dataset[i] for i in range(100, 116)])
    batch.pop("positions")
    with torch.no_grad():
        return float(model.eval()(**batch).loss)


def test_an_adapter_reloads_to_the_same_loss_and_holds_only_what_was_trained(
    job: FitJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder(tmp_path, "adapter")
    kept: list[torch.nn.Module] = []
    monkeypatch.setattr(
        "icons_repro.training.fit.attach_lora",
        lambda m, s: kept.append(attach_lora(m, s)) or kept[0],
    )
    summary = fit(job, out)
    base = loss_of(load_model(Path(job.model_dir)), job)
    reloaded = load_adapter(load_model(Path(job.model_dir)), out)
    assert loss_of(reloaded, job) == loss_of(kept[0], job) != base
    stored = load_file(out / "adapter_model.safetensors")
    assert all("lora_" in name and "vision_tower" not in name for name in stored)
    trained = sum(t.numel() for t in stored.values())
    trained += sum(t.numel() for t in load_file(out / "projector.safetensors").values())
    assert trained == summary["trained_parameters"]
    moments = load_moments(out, [n for n, p in kept[0].named_parameters() if p.requires_grad])
    assert all(m["exp_avg_sq"].any() for m in moments.values())


def test_equal_jobs_give_equal_weights_and_another_seed_does_not(
    job: FitJob, tmp_path: Path
) -> None:
    folders = [folder(tmp_path, name) for name in "abc"]
    for out, seed in zip(folders, (3, 3, 4), strict=True):
        fit(replace(job, seed=seed), out)
    a, b, c = (load_file(out / "adapter_model.safetensors") for out in folders)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_gradients_are_cut_to_a_positive_length_and_by_none_or_zero_not_at_all(
    job: FitJob, tmp_path: Path
) -> None:
    weights = {}
    for norm in (None, 0, 1e9, 1e-9):
        out = folder(tmp_path, str(norm))
        fit(replace(job, train=replace(job.train, max_grad_norm=norm)), out)
        weights[norm] = load_file(out / "adapter_model.safetensors")
    whole = weights[None]
    assert all(torch.equal(whole[k], weights[0][k]) for k in whole)
    assert all(torch.equal(whole[k], weights[1e9][k]) for k in whole)
    assert not any(torch.equal(whole[k], weights[1e-9][k]) for k in whole)


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(
    job: FitJob, tmp_path: Path
) -> None:
    recipe = replace(job.train, epochs=4, resume_seconds=0.0)
    job = replace(job, train=recipe, keep_epochs=True)
    whole, cut = folder(tmp_path, "whole"), folder(tmp_path, "cut")
    fit(job, whole)
    with forked_fit(job, cut) as child:
        while not (cut / "resume.ckpt").exists():
            assert child.runs()
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        assert child.ended() == -signal.SIGKILL
    assert not (cut / "adapter.json").exists()
    fit(job, cut)
    for name in (".", "epoch_1", "epoch_2", "epoch_3"):
        a, b = (load_file(p / name / "adapter_model.safetensors") for p in (whole, cut))
        assert all(torch.equal(a[k], b[k]) for k in a), name
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 33))
    assert not (cut / "resume.ckpt").exists()


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 2, len(content) // 2 + 256):  # more than tensors are apart
        content[i] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_half, _flip_the_middle])
def test_a_damaged_resume_point_is_moved_aside_and_training_starts_from_its_beginning(
    job: FitJob, tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = folder(tmp_path, "whole"), folder(tmp_path, "cut")
    saving = replace(job, train=replace(job.train, resume_seconds=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icons_repro.training.fit._save", lambda *_: 1 / 0)  # dies at the end
        with pytest.raises(ZeroDivisionError):
            fit(saving, cut)
    harm(cut / "resume.ckpt")
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    fit(job, whole)
    fit(job, cut)
    a, b = (load_file(p / "adapter_model.safetensors") for p in (whole, cut))
    assert all(torch.equal(a[k], b[k]) for k in a)
    told = [r.getMessage() for r in caplog.records if "resume.ckpt" in r.getMessage()]
    assert len(told) == 1
    assert "starts from its beginning" in told[0]
    assert len(list(cut.glob("resume.ckpt.*.damaged"))) == 1
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))


def test_a_cut_adapter_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter.json").write_text('{"epoch_rates": [0.1,')
    with pytest.raises(DataError, match=r"adapter\.json does not say"):
        epoch_rates(tmp_path)


def test_epochs_are_kept_as_they_ended_with_their_mean_rates(job: FitJob, tmp_path: Path) -> None:
    out = folder(tmp_path, "epochs")
    fit(replace(job, train=replace(job.train, epochs=3), keep_epochs=True), out)
    assert sorted(p.name for p in out.glob("epoch_*")) == ["epoch_1", "epoch_2"]
    about = [json.loads((out / n / "adapter.json").read_text()) for n in ("epoch_1", "epoch_2")]
    assert [one["steps"] for one in about] == [8, 16]
    losses = [
        loss_of(load_adapter(load_model(Path(job.model_dir)), out / name), job)
        for name in ("epoch_1", "epoch_2", ".")
    ]
    assert len(set(losses)) == 3
    rates = [1.0] * 24  # 24 steps, the first of them the warm-up's only one
    for step in range(24):
        rates[step] = 0.0 if step == 0 else 0.5 * (1 + math.cos(math.pi * (step - 1) / 23))
    expected = [3e-3 * sum(rates[8 * e : 8 * e + 8]) / 8 for e in range(3)]
    assert epoch_rates(out) == pytest.approx(expected)


def test_points_are_kept_at_equal_parts_of_the_run(job: FitJob, tmp_path: Path) -> None:
    job = replace(job, train=replace(job.train, epochs=2))
    points, epochs = folder(tmp_path, "points"), folder(tmp_path, "epochs")
    fit(replace(job, keep_points=4), points)
    fit(replace(job, keep_epochs=True), epochs)
    kept = sorted(points.glob("point_*"))
    assert [path.name for path in kept] == ["point_1", "point_2", "point_3"]
    steps = [json.loads((path / "adapter.json").read_text())["steps"] for path in kept]
    assert steps == [4, 8, 12]
    for one, other in ((points / "point_2", epochs / "epoch_1"), (points, epochs)):
        a, b = (load_file(path / "adapter_model.safetensors") for path in (one, other))
        assert all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(ConfigError, match=r"16 step.*at 17 points.*features\.trajectory_points"):
        fit(replace(job, keep_points=17), folder(tmp_path, "short"))


def test_a_run_stopped_early_stands_where_the_whole_run_stood_at_that_step(
    job: FitJob, tmp_path: Path
) -> None:
    job = replace(job, train=replace(job.train, epochs=2))
    whole, stopped = folder(tmp_path, "whole"), folder(tmp_path, "stopped")
    fit(replace(job, keep_epochs=True), whole)
    assert fit(replace(job, stop_after=8), stopped)["steps"] == 8
    for name in ("adapter_model", "projector", "optimizer"):
        a, b = (load_file(p / f"{name}.safetensors") for p in (whole / "epoch_1", stopped))
        assert all(torch.equal(a[k], b[k]) for k in a), name
    with pytest.raises(ConfigError, match=r"has 16 steps.*after 17.*warmup\.full_run_steps"):
        fit(replace(job, stop_after=17), folder(tmp_path, "short"))


def test_same_steps_takes_as_many_steps_as_the_full_pool(job: FitJob) -> None:
    dataset, _ = open_dataset(
        Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
    )
    longer = replace(job, train=replace(job.train, regime="same_steps"), steps_as_rows=300)
    assert plan_schedule(longer, dataset).steps == 38
    assert plan_schedule(job, dataset).steps == 8


def test_a_second_adapter_is_refused(job: FitJob, tmp_path: Path) -> None:
    out = folder(tmp_path, "adapter")
    fit(job, out)
    model = load_adapter(load_model(Path(job.model_dir)), out)
    with pytest.raises(DataError, match="already carries an adapter"):
        load_adapter(model, out)  # type: ignore[arg-type]
