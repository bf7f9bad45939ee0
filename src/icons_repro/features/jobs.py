"""What the feature steps do: which model, which rows, which arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icons_repro.core.device import require_device
from icons_repro.core.files import read_json, write_json
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.data.records import RecordTable
from icons_repro.features.arrays import FeatureArrays, finish
from icons_repro.features.embeddings import (
    ClipFeatures,
    CoincideFeatures,
    PictureTexts,
    clip_plan,
    prompt_length,
)
from icons_repro.features.forward_stats import ForwardStatistics
from icons_repro.features.predict import FeaturePass, run_pass
from icons_repro.features.self_filter import train_score_net
from icons_repro.features.stage import ClipPass, CoincidePass, LlavaPass, PoolPass, SelfFilter
from icons_repro.models.encoders import load_clip
from icons_repro.models.llava import load_model
from icons_repro.models.lora import load_adapter
from icons_repro.training.fit import FitJob
from icons_repro.training.progress import predict_trainer

FACTS = "facts.json"
TITLES = {
    "forward": "losses and hidden states",
    "coincide": "attention outputs",
    "clip": "images and texts",
}


def chunk_names(step: PoolPass, work: Work) -> list[str]:
    """Name the chunks of the pool's batches."""
    encoder = load_clip(step.clip.path) if isinstance(step, ClipPass) else None
    return _plan(step, work, encoder).chunk_names(work.chunks)


def fill(step: PoolPass, work: Work, parts: Iterator[str]) -> None:
    """Run what is left of the chunks that come; a batch that was half done runs whole."""
    features: FeaturePass | None = None
    batches: PassPlan | None = None
    for part in parts:
        features = features or _load(step, work)
        batches = batches or _plan(step, work, getattr(features, "encoder", None))
        write_json(work.out / FACTS, features.facts)
        with FeatureArrays(work.out, len(batches.table), features.columns) as arrays:
            loader = batches.loader(part, partial(_left, arrays))
            trainer = predict_trainer(batches.title(TITLES[step.stage], part), _trainer(step))
            run_pass(features, loader, arrays, trainer)


def close(step: PoolPass, work: Work) -> Counts:
    """Fill unusable rows with NaN."""
    n_rows = len(RecordTable(work.path(step.pool) / "records.arrow"))
    return {**finish(work.out, n_rows), **(read_json(work.out / FACTS) or {})}


def _left(arrays: FeatureArrays, batches: list[np.ndarray]) -> list[np.ndarray]:
    return [batch for batch in batches if len(arrays.pending(batch))]


def _trainer(step: Any) -> Any:
    return step.trainer


def _load(step: PoolPass, work: Work) -> FeaturePass:
    require_device(_trainer(step))
    if isinstance(step, ClipPass):
        return ClipFeatures(load_clip(step.clip.path, getattr(torch, step.trainer.model_dtype)))
    assert isinstance(step, LlavaPass)
    trainer = step.trainer
    device = trainer.device if trainer.bits else "cpu"
    model = load_model(
        work.path(step.base), getattr(torch, trainer.model_dtype), device, trainer.bits
    )
    if step.warmup:
        model = load_adapter(model, work.path(step.warmup)).eval()
    if isinstance(step, CoincidePass):
        pool, base = work.path(step.pool), work.path(step.base)
        dataset, _ = open_dataset(pool, pool / "images", base, step.encoding)
        return CoincideFeatures(model, prompt_length(dataset.encoder), step.layers, step.dtype)
    return ForwardStatistics(model, step.dtype)


def _plan(step: PoolPass, work: Work, encoder: Any) -> PassPlan:
    """Return the batches of every usable row of the pool."""
    pool = work.path(step.pool)
    table = RecordTable(pool / "records.arrow")
    usable = np.flatnonzero(table.usable)
    if isinstance(step, ClipPass):
        return clip_plan(PictureTexts(table, pool / "images"), encoder, usable, step.workers)
    assert isinstance(step, LlavaPass)
    dataset, collate = open_dataset(pool, pool / "images", work.path(step.base), step.encoding)
    return PassPlan.of(dataset, collate, usable, step.token_budget, step.encoding.num_workers)


def self_filter(step: SelfFilter, work: Work) -> Counts:
    """Train the score net on every usable row."""
    require_device(step.trainer)
    records = work.path(step.pool)
    usable = np.flatnonzero(RecordTable(records / "records.arrow").usable)
    np.save(work.out / "positions.npy", usable)
    job = FitJob(
        model_dir=str(work.path(step.base)),
        records=str(records),
        image_root=str(records / "images"),
        positions=str(work.out / "positions.npy"),
        seed=step.settings.seed,
        lora=step.lora,
        train=step.settings.train,
        data=step.encoding,
        trainer=replace(step.trainer, devices=1, num_nodes=1),
    )
    clip: Path = work.path(step.clip)
    return train_score_net(job, step.settings, clip, work.out, work.on_metrics)
