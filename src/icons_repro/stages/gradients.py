"""Extract: gradient stores of the pool and of the target tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.settings import (
    DataSettings,
    GradientSettings,
    TrainerSettings,
)
from icons_repro.stages.features import pass_precision
from icons_repro.stages.training import encoding_config


@dataclass(frozen=True)
class GradientJob:
    """At which model gradients are taken, and what is made of them."""

    settings: GradientSettings
    projector: Mapping[str, Any]
    data: DataSettings
    trainer: TrainerSettings
    base: Step
    warmup: Step
    epoch: int | None = None
    """The warm-up's epoch, from 1; None is its end."""

    def config(self, feature: str) -> dict[str, Any]:
        """Return what decides the rows of a gradient store."""
        at = {} if self.epoch is None else {"epoch": self.epoch}
        return at | {
            "per_sample": self.settings.per_sample,
            "parameters": self.settings.parameters,
            "feature": feature,
            "projector": dict(self.projector),
            "dtype": self.settings.dtype,
            "data": encoding_config(self.data),
            "precision": {
                **pass_precision(self.trainer),
                "accelerator": self.trainer.accelerator,
            },
        }

    def adapter(self, ws: Workspace) -> Path:
        """Return the adapter's folder."""
        from icons_repro.training.checkpoint import epoch_folder

        warmup = ws.inputs["warmup"]
        return warmup if self.epoch is None else epoch_folder(warmup, self.epoch)

    def identities(self, ws: Workspace) -> dict[str, str]:
        """Return the names of the model and adapter; rows of others are never multiplied."""
        at = "" if self.epoch is None else f"@{self.epoch}"
        return {"model": ws.inputs["base"].name, "adapter": ws.inputs["warmup"].name + at}


def train_gradients(job: GradientJob, pool: Step) -> Step:
    """One projected gradient for each pool row, in one store or in independent shards."""
    settings = job.settings
    config = job.config(settings.train_feature)
    inputs = {"base": job.base, "warmup": job.warmup, "pool": pool}

    def shard(number: int, of: int) -> Step:
        def build(ws: Workspace) -> dict[str, Any]:
            parts = gradient_parts(ws, job, settings.train_feature)
            return fill_store(ws, job, ws.inputs["pool"], ws.out, parts, (number, of))

        name = {"shard": number, "shards": of} if of > 1 else {}
        return Step("gradients", build, {**config, **name}, inputs, resumable=True)

    if settings.shard is not None:
        return shard(settings.shard, settings.shards)
    if settings.shards == 1:
        return shard(0, 1)
    shards = {f"shard{i:05d}": shard(i, settings.shards) for i in range(settings.shards)}

    def join(ws: Workspace) -> dict[str, Any]:
        from icons_repro.gradients.shards import assemble

        return dict(assemble(ws.out, list(ws.inputs.values())).info.rows)

    return Step("gradients", join, {"assembled": settings.shards}, shards)


def target_gradients(job: GradientJob, targets: Step) -> Step:
    """One store of validation gradients for each target task."""
    feature = job.settings.val_feature

    def build(ws: Workspace) -> dict[str, Any]:
        counts = {}
        parts = gradient_parts(ws, job, feature)
        for task in task_folders(ws.inputs["targets"]):
            out = ws.out / task.name
            out.mkdir(exist_ok=True)
            counts[task.name] = fill_store(ws, job, task, out, parts)
        return counts

    inputs = {"base": job.base, "warmup": job.warmup, "targets": targets}
    return Step("target_gradients", build, job.config(feature), inputs, resumable=True)


def task_folders(targets: Path) -> list[Path]:
    """Return the folder of each target task, sorted by name."""
    return sorted(path.parent for path in targets.glob("*/records.arrow"))


def fill_store(
    ws: Workspace,
    job: GradientJob,
    records: Path,
    folder: Path,
    parts: tuple[Any, Any, Any],
    shard: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Take the gradients of one range of `records` at the warm-up model and store them."""
    from icons_repro.data.datamodule import bucketed_loader, open_dataset
    from icons_repro.gradients.extract import extract
    from icons_repro.gradients.shards import shard_range
    from icons_repro.gradients.writer import remaining_batches
    from icons_repro.training.progress import predict_trainer

    images = (ws.inputs.get("pool") or ws.inputs["targets"]) / "images"
    dataset, collate = open_dataset(records, images, ws.inputs["base"], job.data)
    start, stop = shard_range(len(dataset), *shard)
    usable = np.flatnonzero(dataset.table.usable)
    wanted = usable[(usable >= start) & (usable < stop)]
    unusable = np.setdiff1d(np.arange(start, stop), wanted)
    gradients, projector, feature = parts
    store = extract(
        gradients,
        projector,
        bucketed_loader(
            dataset,
            collate,
            wanted,
            job.settings.token_budget,
            job.data.num_workers,
            partial(remaining_batches, folder),
        ),
        folder,
        n_rows=stop - start,
        keys=dataset.table.keys[start:stop],
        dtype=job.settings.dtype,
        identities=job.identities(ws),
        feature=feature,
        unusable=unusable,
        start=start,
        total=len(dataset),
        trainer=predict_trainer(f"gradients of {records.name}", job.trainer),
    )
    return dict(store.info.rows)


def gradient_parts(ws: Workspace, job: GradientJob, feature: str) -> tuple[Any, Any, Any]:
    """Load the warm-up model and return what takes, projects and shapes its gradients."""
    import torch

    from icons_repro.gradients.features import build_feature
    from icons_repro.gradients.per_sample import PerSampleGradients
    from icons_repro.gradients.projectors import build_projector
    from icons_repro.gradients.self_test import choose_attention
    from icons_repro.models.llava import load_model
    from icons_repro.models.lora import gradient_parameters, load_adapter

    adapter = job.adapter(ws)
    dtype = getattr(torch, job.trainer.model_dtype)
    model = load_adapter(load_model(ws.inputs["base"], dtype, job.trainer.device), adapter)
    parameters = gradient_parameters(model, job.settings.parameters)
    gradients = PerSampleGradients(model, parameters, job.settings.per_sample)
    gradients.attention = choose_attention(gradients, job.trainer.precision)
    layout = gradients.layout
    return (
        gradients,
        build_projector(layout, **job.projector),
        build_feature(feature, layout, adapter / "optimizer.safetensors"),
    )
