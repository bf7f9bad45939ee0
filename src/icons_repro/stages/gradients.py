"""Extract: gradient stores of the pool and of the target tasks."""

from __future__ import annotations

from collections.abc import Mapping
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
from icons_repro.stages.training import encoding_config


def gradient_config(
    settings: GradientSettings,
    projector: Mapping[str, Any],
    data: DataSettings,
    trainer: TrainerSettings,
    feature: str,
) -> dict[str, Any]:
    """Return what decides the rows of a gradient store."""
    return {
        "per_sample": settings.per_sample,
        "parameters": settings.parameters,
        "feature": feature,
        "projector": dict(projector),
        "dtype": settings.dtype,
        "data": encoding_config(data),
        "precision": {"model_dtype": trainer.model_dtype, "accelerator": trainer.accelerator},
    }


def train_gradients(
    settings: GradientSettings,
    projector: Mapping[str, Any],
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    warmup: Step,
    pool: Step,
) -> Step:
    """One projected gradient for each pool row, in one store or in independent shards."""
    config = gradient_config(settings, projector, data, trainer, settings.train_feature)
    inputs = {"base": base, "warmup": warmup, "pool": pool}

    def shard(number: int, of: int) -> Step:
        def build(ws: Workspace) -> dict[str, Any]:
            parts = gradient_parts(ws, settings, projector, trainer, settings.train_feature)
            return fill_store(
                ws, ws.inputs["pool"], ws.out, parts, settings, data, trainer, (number, of)
            )

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


def target_gradients(
    settings: GradientSettings,
    projector: Mapping[str, Any],
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    warmup: Step,
    targets: Step,
) -> Step:
    """One store of validation gradients for each target task."""

    def build(ws: Workspace) -> dict[str, Any]:
        counts = {}
        parts = gradient_parts(ws, settings, projector, trainer, settings.val_feature)
        for task in task_folders(ws.inputs["targets"]):
            out = ws.out / task.name
            out.mkdir(exist_ok=True)
            counts[task.name] = fill_store(ws, task, out, parts, settings, data, trainer)
        return counts

    config = gradient_config(settings, projector, data, trainer, settings.val_feature)
    inputs = {"base": base, "warmup": warmup, "targets": targets}
    return Step("target_gradients", build, config, inputs, resumable=True)


def task_folders(targets: Path) -> list[Path]:
    """Return the folder of each target task, sorted by name."""
    return sorted(path.parent for path in targets.glob("*/records.arrow"))


def fill_store(
    ws: Workspace,
    records: Path,
    folder: Path,
    parts: tuple[Any, Any, Any],
    settings: GradientSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Take the gradients of one range of `records` at the warm-up model and store them."""
    from icons_repro.data.datamodule import bucketed_loader, open_dataset
    from icons_repro.gradients.extract import extract
    from icons_repro.gradients.shards import shard_range
    from icons_repro.gradients.writer import remaining_batches
    from icons_repro.training.progress import predict_trainer

    images = (ws.inputs.get("pool") or ws.inputs["targets"]) / "images"
    dataset, collate = open_dataset(records, images, ws.inputs["base"], data)
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
            settings.token_budget,
            data.num_workers,
            partial(remaining_batches, folder),
        ),
        folder,
        n_rows=stop - start,
        keys=dataset.table.keys[start:stop],
        dtype=settings.dtype,
        identities={"model": ws.inputs["base"].name, "adapter": ws.inputs["warmup"].name},
        feature=feature,
        unusable=unusable,
        start=start,
        total=len(dataset),
        trainer=predict_trainer(f"gradients of {records.name}", trainer),
    )
    return dict(store.info.rows)


def gradient_parts(
    ws: Workspace,
    settings: GradientSettings,
    projector: Mapping[str, Any],
    trainer: TrainerSettings,
    feature: str,
) -> tuple[Any, Any, Any]:
    """Load the warm-up model and return what takes, projects and shapes its gradients."""
    import torch

    from icons_repro.gradients.features import build_feature
    from icons_repro.gradients.per_sample import PerSampleGradients
    from icons_repro.gradients.projectors import build_projector
    from icons_repro.models.llava import load_model
    from icons_repro.models.lora import gradient_parameters, load_adapter

    warmup = ws.inputs["warmup"]
    base = load_model(ws.inputs["base"], getattr(torch, trainer.model_dtype), trainer.device)
    model = load_adapter(base, warmup)
    parameters = gradient_parameters(model, settings.parameters)
    gradients = PerSampleGradients(model, parameters, settings.per_sample)
    layout = gradients.layout
    optimizer = warmup / "optimizer.safetensors"
    return (
        gradients,
        build_projector(layout, **projector),
        build_feature(feature, layout, optimizer),
    )
