"""What the score steps do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.step import Counts
from icons_repro.core.types import InfluenceMatrix
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.data.target_tasks import subtasks
from icons_repro.gradients.direct import (
    DirectScores,
    TaskDirections,
    direct_influence,
    task_directions,
)
from icons_repro.gradients.directions import build_direction
from icons_repro.gradients.extract import Running, opened
from icons_repro.gradients.identities import made_with, row_identities
from icons_repro.gradients.jobs import Taker, adapter_of, identities, plan, pool_plan, run
from icons_repro.gradients.writer import open_writer, seal
from icons_repro.influence.score import score, weighted_sum
from icons_repro.influence.stage import DirectInfluence, Influence, InfluenceOverEpochs
from icons_repro.training.checkpoint import epoch_rates
from icons_repro.training.progress import predict_trainer

MATRIX = "influence.parquet"
SCORES = "scores"
DIRECTIONS = "directions.safetensors"
UNPROJECTED = {"kind": "none", "dim": None, "seed": 0}


def from_stores(step: Influence, work: Work) -> Counts:
    """Score the pool's store with each task's."""
    folders = task_folders(work.path(step.targets))
    matrix = score(
        work.path(step.train),
        {folder.name: work.path(step.validation) / folder.name for folder in folders},
        subtasks=subtask_labels(folders, step.subtasks),
        reduce=None,
        raw_validation=step.raw,
        keys=RecordTable(work.path(step.pool) / "records.arrow").keys,
    )
    return save(matrix, work.out)


def direct_parts(step: DirectInfluence, work: Work) -> list[str]:
    """Keep the mean validation gradient of each task, unprojected; name the pool's chunks."""
    taker = Taker.load(unprojected(step), work)
    targets = work.path(step.targets)
    folders = task_folders(targets)
    plans = {folder.name: plan(step, work, folder, targets / "images") for folder in folders}
    moments = adapter_of(step, work) / "optimizer.safetensors"
    directions = task_directions(
        taker.gradients,
        {name: batches.loader(batches.chunk_names(1)[0]) for name, batches in plans.items()},
        subtasks=subtask_labels(folders, step.subtasks),
        raw=step.raw,
        direction=build_direction(step.val_direction, taker.gradients.layout, moments),
        running=Running(predict_trainer("gradients of the targets", step.trainer), taker.limits),
    )
    directions.save(work.out / DIRECTIONS)
    return pool_plan(step, work).chunk_names(work.chunks)


def fill_direct(step: DirectInfluence, work: Work, parts: Iterator[str]) -> None:
    """Score the chunks that come, each batch whole."""
    batches = pool_plan(step, work)
    directions = TaskDirections.load(work.out / DIRECTIONS)
    taker: Taker | None = None
    for part in parts:
        taker = taker or Taker.load(unprojected(step), work)
        projection = DirectScores(taker.gradients.layout, directions)
        writer = open_writer(
            work.out / SCORES,
            n_rows=len(batches.table),
            dim=projection.dim,
            dtype="float32",
            identities=row_identities(
                taker.gradients, projection, taker.direction, identities(step)
            ),
            keys=batches.table.keys,
            made_with=made_with(taker.gradients, predict_trainer("", step.trainer)),
        )
        with writer:
            run(taker, writer, batches, part, step, work.out / SCORES, projection)


def close_direct(step: DirectInfluence, work: Work) -> Counts:
    """Seal the scores and write them as an influence matrix."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    seal(work.out / SCORES, np.flatnonzero(~table.usable))
    names = TaskDirections.load(work.out / DIRECTIONS).names
    return save(direct_influence(opened(work.out / SCORES), names), work.out)


def unprojected(step: Any) -> Any:
    """Return the step with its gradients whole."""
    return replace(step, recipe=replace(step.recipe, projection=UNPROJECTED))


def over_epochs(step: InfluenceOverEpochs, work: Work) -> Counts:
    """Add the matrices, each times its epoch's share of the learning rates."""
    rates = epoch_rates(work.path(step.warmup))
    loaded = [InfluenceMatrix.load(work.path(matrix) / MATRIX) for matrix in step.epoch]
    weighted = [(rate, m) for rate, m in zip(rates, loaded, strict=True) if rate > 0]
    return save(weighted_sum(weighted), work.out)


def task_folders(targets: Path) -> list[Path]:
    """Return the folder of each target task, sorted by name."""
    return sorted(path.parent for path in targets.glob("*/records.arrow"))


def subtask_labels(folders: list[Path], split: list[str]) -> dict[str, list[str]]:
    """Return the sub-task of each row, for the tasks that are scored sub-task by sub-task."""
    chosen = [folder for folder in folders if folder.name in split]
    return {folder.name: subtasks(RecordTable(folder / "records.arrow")) for folder in chosen}


def save(matrix: InfluenceMatrix, out: Path) -> Counts:
    """Write `influence.parquet` and return its counts."""
    matrix.save(out / MATRIX)
    excluded = int(np.isnan(matrix.values).any(axis=1).sum())
    return {"rows": len(matrix.keys), "columns": list(matrix.tasks), "excluded": excluded}
