"""Train one model on one selection of rows: the only training loop of the project."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)
from peft import PeftModel
from transformers import PreTrainedModel

from icons_repro.core.deterministic import same_bits
from icons_repro.core.device import require_device
from icons_repro.core.errors import ConfigError
from icons_repro.core.files import read_json, write_json, write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.settings import (
    FEW_STEPS,
)
from icons_repro.core.stop import deferred
from icons_repro.core.types import IMAGE_TOKEN
from icons_repro.core.work import OnMetrics
from icons_repro.data.datamodule import (
    PoolDataModule,
    Schedule,
    accumulation,
    open_dataset,
)
from icons_repro.data.dataset import ConversationDataset
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, checkpoint_layers, to_float32
from icons_repro.models.trainer import quiet_trainer
from icons_repro.models.vocabulary import Coverage, coverage, spread
from icons_repro.training.callbacks import KeptAdapters, LoraCheck, MetricsWriter, ResumePoints
from icons_repro.training.checkpoint import (
    AtomicCheckpointIO,
    save_adapter,
    whole_resume_point,
)
from icons_repro.training.distributed import Place, local_rank, train_distributed
from icons_repro.training.job import FitJob, plan_schedule, rows_of
from icons_repro.training.module import InstructionTuner
from icons_repro.training.progress import StageProgress
from icons_repro.training.sharding import check_strategy, strategy_of

log = logging.getLogger(__name__)
RESUME = "resume.ckpt"
DONE = "training.json"
"""What was trained; written last."""
PROFILERS: Mapping[str, Callable[..., Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
PROFILE = "profile"
"""Lightning puts `fit-` before the profile's name, and `.txt` behind it."""


def fit(job: FitJob, out: Path, on_metrics: OnMetrics | None = None) -> dict[str, Any]:
    """Train as `job` says and write the adapter (or, without LoRA, the model) to `out`.

    More than one device runs in processes of their own (`distributed.py`). A run that was cut off
    goes on from `out/resume.ckpt`. Returns counts and times.
    """
    wanted = job.trainer.devices * job.trainer.num_nodes
    check_strategy(job.trainer, job.lora is not None)
    accumulation(job.train.batch_size, job.train.micro_batch, wanted)
    done = out / DONE
    if read_json(done) is None:
        whole_resume_point(out / RESUME)  # before there are other ranks: all must see the same
        place = Place.here()
        if wanted == 1:
            fit_here(job, out, on_metrics)
        elif place.size == wanted:
            write_text(place.job(out), job.to_json())
            fit_here(job, out, on_metrics, place.size, place.rank)
        else:
            if job.trainer.num_nodes == 1:
                require_device(job.trainer, job.trainer.devices)
            train_distributed(job.to_json(), out, job.trainer.devices, job.trainer.num_nodes)
    summary: dict[str, Any] = json.loads(done.read_text())
    return summary


def fit_here(
    job: FitJob,
    out: Path,
    on_metrics: OnMetrics | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> None:
    """Train in this process, which is rank `rank` of `world_size`."""
    started = time.perf_counter()
    require_device(job.trainer)
    quiet_third_parties()
    L.seed_everything(job.seed, workers=True, verbose=False)
    dataset, collate = open_dataset(
        Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
    )
    schedule = plan_schedule(job, dataset, world_size, rank)
    if job.stop_after and job.stop_after > schedule.steps:
        raise ConfigError(
            f"the run over the whole pool has {schedule.steps} steps, and its adapter is wanted "
            f"after {job.stop_after}: lower warmup.full_run_steps."
        )
    known = known_words(dataset, np.load(job.positions))
    if rank == 0:
        _warn(known, schedule.steps)
    model = trainable_model(job)
    tuner = InstructionTuner(model, job.train, schedule.steps, job.seed, world_size)
    trainer = make_trainer(job, out, schedule, on_metrics)
    resume = out / RESUME
    with deferred(), same_bits(job.trainer):
        trainer.fit(
            tuner,
            PoolDataModule(dataset, collate, schedule, job.data.num_workers),
            ckpt_path=str(resume) if resume.exists() else None,
            weights_only=True,
        )
    summary = {
        "rows": len(rows_of(job)),
        "steps": trainer.global_step,
        "trained_parameters": sum(p.numel() for _, p in tuner.trained()),
        "unknown_words": str(known) if not known.enough else "",
        "seconds": round(time.perf_counter() - started, 3),
        "job": asdict(job),
    }
    if job.keep_epochs:
        summary["epoch_rates"] = tuner.epoch_rates()
    _save(tuner, trainer, out, summary)
    if trainer.is_global_zero:
        write_json(out / DONE, summary)
        resume.unlink(missing_ok=True)


def known_words(dataset: ConversationDataset, positions: np.ndarray) -> Coverage:
    """Return how much of the rows' text the model's tokenizer knows, from a spread of them."""
    rows = (dataset.table[int(positions[i])] for i in spread(len(positions)))
    turns = (turn["value"] for row in rows for turn in row.conversations)
    return coverage(dataset.encoder.tokenizer, (t.replace(IMAGE_TOKEN, "") for t in turns))


def _warn(known: Coverage, steps: int) -> None:
    """Say beforehand what would end in scores near zero."""
    if not known.enough:
        log.warning("the model cannot read all of these rows: %s.", known)
    if steps < FEW_STEPS:
        log.warning(
            "training takes %d optimizer step(s): lower batch_size and micro_batch, or raise the "
            "epochs, of a recipe that is meant for more rows.",
            steps,
        )


def load_base(job: FitJob) -> Any:
    """Load the base model that a job starts from, frozen.

    Raises `ConfigError` for a base in few bits that is to be trained itself.
    """
    t = job.trainer
    if t.bits and not job.lora:
        raise ConfigError(
            f"trainer.bits={t.bits} freezes the base's weights, and this trains them: set "
            "trainer.bits=null (for Self-Filter, or features.self_filter.lora=true)."
        )
    device = f"cuda:{local_rank()}" if t.bits and t.device == "cuda" else "cpu"
    return load_model(Path(job.model_dir), getattr(torch, t.model_dtype), device, t.bits)


def trainable_model(job: FitJob) -> PeftModel | PreTrainedModel:
    """Load the base and free what the job trains: LoRA and projector, or every weight."""
    base = load_base(job)
    model = attach_lora(base, job.lora) if job.lora else to_float32(base).requires_grad_(True)
    if job.train.gradient_checkpointing:
        checkpoint_layers(base)
    return model.train()


def _save(tuner: InstructionTuner, trainer: L.Trainer, out: Path, summary: dict[str, Any]) -> None:
    model, writes = tuner.model, trainer.is_global_zero
    if isinstance(model, PeftModel):
        save_adapter(model, tuner.trained(), trainer.optimizers[0], out, summary, writes)
    elif isinstance(model, PreTrainedModel) and writes:
        model.save_pretrained(out)


def make_trainer(
    job: FitJob, out: Path, schedule: Schedule, on_metrics: OnMetrics | None
) -> L.Trainer:
    """Return Lightning's Trainer for one planned schedule."""
    t, s = job.trainer, job.train
    callbacks: list[L.Callback] = [
        MetricsWriter(out / "metrics.jsonl", on_metrics),
        StageProgress("training"),
    ]
    if job.lora:
        callbacks.append(LoraCheck())
    if job.keep_epochs:
        callbacks.append(KeptAdapters.of_epochs(out, s.epochs, schedule.steps))
    if job.keep_points:
        callbacks.append(KeptAdapters.of_points(out, job.keep_points, schedule.steps))
    callbacks.append(ResumePoints(out / RESUME, s.resume_seconds))
    alone = t.devices * t.num_nodes == 1
    return quiet_trainer(
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=strategy_of(t),
        precision=t.precision,
        max_epochs=1,
        max_steps=job.stop_after or -1,
        accumulate_grad_batches=schedule.accumulate,
        gradient_clip_val=s.max_grad_norm,
        callbacks=callbacks,
        default_root_dir=out,
        detect_anomaly=t.detect_anomaly,
        profiler=PROFILERS[t.profiler](out, PROFILE) if t.profiler else None,
        plugins=[AtomicCheckpointIO(), *([LightningEnvironment()] if alone else [])],
    )
