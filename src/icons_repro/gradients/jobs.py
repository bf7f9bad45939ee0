"""What the gradient steps do: which model, which rows, which batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from icons_repro.core.device import require_device
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.data.records import RecordTable
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.curvature.direction import FILE, CurvedDirection
from icons_repro.gradients.directions import Direction, build_direction
from icons_repro.gradients.extract import fill, opened
from icons_repro.gradients.identities import made_with, row_identities
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.numbered import NumberedBatches
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection, build_projection
from icons_repro.gradients.self_test import choose_attention
from icons_repro.gradients.stage import (
    Curvature,
    CurvedPoolGradients,
    CurvedTargetGradients,
    Gradients,
    PoolGradients,
    TargetGradients,
)
from icons_repro.gradients.store import GradientStore
from icons_repro.gradients.writer import (
    StoreWriter,
    given_up,
    open_writer,
    pending,
    remaining_batches,
    seal,
)
from icons_repro.models.llava import load_model
from icons_repro.models.lora import checkpoint_layers, gradient_parameters, load_adapter
from icons_repro.training.checkpoint import epoch_folder
from icons_repro.training.progress import predict_trainer

BLOCK = 4096
"""Gradient rows copied at once."""


@dataclass(frozen=True)
class Taker:
    """The warm-up model, and what takes, shapes and projects its gradients."""

    gradients: PerSampleGradients
    projection: Projection
    direction: Direction
    limits: TokenLimits

    @classmethod
    def load(cls, step: Gradients | Curvature, work: Work) -> Taker:
        """Load the model of a step on its device."""
        require_device(step.trainer)
        adapter = adapter_of(step, work)
        dtype = getattr(torch, step.trainer.model_dtype)
        base = load_model(work.path(step.base), dtype, step.trainer.device, step.trainer.bits)
        model = load_adapter(base, adapter)
        if step.recipe.gradient_checkpointing:
            checkpoint_layers(base)
        parameters = gradient_parameters(model, step.recipe.parameters)
        gradients = PerSampleGradients(model, parameters, step.recipe.per_sample)
        gradients.attention = choose_attention(gradients, step.trainer.precision)
        return cls(
            gradients,
            build_projection(gradients.layout, **step.recipe.projection),
            direction_of(step, work, gradients.layout, adapter),
            TokenLimits(work.cache.root / "memory.json"),
        )

    def collector(self, projection: Projection | None = None) -> RowCollector:
        """Return what turns batches into rows, with another projection if one is given."""
        projection = projection or self.projection
        return RowCollector(self.gradients, projection, self.direction, limits=self.limits)


def direction_of(step: Any, work: Work, layout: ParameterLayout, adapter: Path) -> Direction:
    """Return what a step makes of a gradient."""
    if isinstance(step, (CurvedPoolGradients, CurvedTargetGradients)):
        folder = work.path(step.curvature)
        return CurvedDirection.load(folder / FILE, layout, step.damping, step.power)
    return build_direction(step.recipe.direction, layout, adapter / "optimizer.safetensors")


def adapter_of(step: Any, work: Work) -> Path:
    """Return the adapter's folder: the warm-up's end, or one of its epochs."""
    warmup, epoch = work.path(step.warmup), step.recipe.epoch
    return warmup if epoch is None else epoch_folder(warmup, epoch)


def identities(step: Any) -> dict[str, str]:
    """Return the names of the model and adapter; rows of others are never multiplied."""
    at = "" if step.recipe.epoch is None else f"@{step.recipe.epoch}"
    return {"model": step.base.fingerprint, "adapter": step.warmup.fingerprint + at}


def plan(
    step: Any, work: Work, records: Path, images: Path, begun_with: int | None = None
) -> PassPlan:
    """Return the batches of every usable row of a records folder, planned once."""
    dataset, collate = open_dataset(records, images, work.path(step.base), step.encoding)
    usable = np.flatnonzero(dataset.table.usable)
    budget, workers = step.recipe.token_budget, step.encoding.num_workers
    return PassPlan.of(dataset, collate, usable, budget, workers, begun_with)


def pool_plan(step: Any, work: Work) -> PassPlan:
    """Return the batches of the pool, as the attempt was begun."""
    pool = work.path(step.pool)
    begun = work.begun_with("token_budget", step.recipe.token_budget)
    return plan(step, work, pool, pool / "images", begun)


def chunk_names(step: Any, work: Work) -> list[str]:
    """Name the chunks of the pool's batches, as even as can be."""
    return pool_plan(step, work).chunk_names(work.chunks)


def fill_pool(step: PoolGradients, work: Work, parts: Iterator[str]) -> None:
    """Take the gradients of the chunks that come, each batch whole."""
    taker: Taker | None = None
    batches = pool_plan(step, work)
    for part in parts:
        taker = taker or Taker.load(step, work)
        with _writer(step, work.out, taker, batches.table) as writer:
            run(taker, writer, batches, part, step, work.out)


def run(
    taker: Taker,
    writer: StoreWriter,
    batches: PassPlan,
    part: str,
    step: Any,
    folder: Path,
    projection: Projection | None = None,
) -> None:
    """Run what is left of a chunk's batches into the store, by the kernel it was begun with."""
    loader = batches.loader(part, partial(remaining_batches, folder))
    if len(loader):
        trainer = predict_trainer(batches.title("gradients", part), step.trainer)
        fill(writer, taker.collector(projection), NumberedBatches(loader), trainer)


def close_pool(step: PoolGradients, work: Work) -> Counts:
    """Take what no part has brought, and try rows that did not fit in memory alone; seal."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    unusable = np.flatnonzero(~table.usable)
    if len(np.setdiff1d(pending(work.out), unusable)) or len(given_up(work.out)):
        taker, batches = Taker.load(step, work), pool_plan(step, work)
        (whole,) = batches.chunk_names(1)
        with _writer(step, work.out, taker, table) as writer:
            run(taker, writer, batches, whole, step, work.out)
    seal(work.out, unusable)
    return dict(opened(work.out).info.rows)


def fill_targets(step: TargetGradients, work: Work, parts: Iterator[str]) -> None:
    """Take the gradients of the tasks that come."""
    targets = work.path(step.targets)
    taker: Taker | None = None
    for task in parts:
        taker = taker or Taker.load(step, work)
        batches = plan(step, work, targets / task, targets / "images")
        (whole,) = batches.chunk_names(1)
        with _writer(step, work.out / task, taker, batches.table) as writer:
            run(taker, writer, batches, whole, step, work.out / task)
        seal(work.out / task, np.flatnonzero(~batches.table.usable))


def count_targets(step: TargetGradients, work: Work) -> Counts:
    """Return the rows of each task by status."""
    return {name: dict(opened(work.out / name).info.rows) for name in step.parts(work)}


def _writer(step: Gradients, folder: Path, taker: Taker, table: RecordTable) -> StoreWriter:
    return open_writer(
        folder,
        n_rows=len(table),
        dim=taker.projection.dim,
        dtype=step.recipe.dtype,
        identities=row_identities(
            taker.gradients, taker.projection, taker.direction, identities(step)
        ),
        keys=table.keys,
        made_with=made_with(taker.gradients, predict_trainer("", step.trainer)),
    )


def as_arrays(store: Path, out: Path) -> Counts:
    """Write a store's rows and lengths as `.npy` files, NaN where there is no gradient."""
    opened_store = GradientStore.open(store)
    n, dim = len(opened_store), opened_store.info.dim
    rows = open_memmap(out / "rows.npy", "w+", np.dtype(np.float16), (n, dim))
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        rows[block] = opened_store.read(block.start, block.stop).numpy()
    rows[~opened_store.ok] = np.nan
    rows.flush()
    norms = np.where(opened_store.ok, opened_store.norms, np.float32(np.nan))
    np.save(out / "norms.npy", norms.astype(np.float32))
    return {"rows": n, "without_feature": int((~opened_store.ok).sum())}
