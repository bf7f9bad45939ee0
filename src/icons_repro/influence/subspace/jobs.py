"""What the step of subspace gradients does: decompose, project, scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import load_file, save_file

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_json
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.gradients.direct import DirectScores, TaskDirections
from icons_repro.gradients.extract import opened, run_module
from icons_repro.gradients.identities import made_with, row_identities
from icons_repro.gradients.jobs import Taker, identities, plan, pool_plan, run
from icons_repro.gradients.numbered import NumberedBatches
from icons_repro.gradients.projections import Unprojected
from icons_repro.gradients.room import require_room
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import open_writer, seal
from icons_repro.influence.jobs import subtask_labels, task_folders, unprojected
from icons_repro.influence.stage import SubspaceGradients
from icons_repro.influence.subspace.svd import subspace, unit
from icons_repro.training.progress import predict_trainer

DIRECTIONS = "directions.safetensors"
WIDTHS = "widths.json"
SCORES = "scores"
BLOCK = 4096


@dataclass
class _Raw:
    """Keeps the first rows of a task at their own length; takes the place of a store's writer."""

    wanted: np.ndarray
    rows: dict[int, torch.Tensor] = field(default_factory=dict)

    def lacks(self, positions: np.ndarray) -> bool:
        return bool(np.isin(positions, self.wanted).any())

    def write(
        self, positions: np.ndarray, rows: torch.Tensor, norms: torch.Tensor, status: np.ndarray
    ) -> None:
        for i, position in enumerate(positions.tolist()):
            if status[i] == RowStatus.ok and position in self.wanted:
                self.rows[position] = (rows[i] * norms[i]).cpu().float()


def parts(step: SubspaceGradients, work: Work) -> list[str]:
    """Keep each task's directions and its rows in them; name the pool's chunks."""
    taker = Taker.load(unprojected(step), work)
    targets = work.path(step.targets)
    folders = task_folders(targets)
    labels = subtask_labels(folders, step.subtasks)
    spaces, tasks, groups = {}, [], []
    for folder in folders:
        found = _raw_rows(step, work, taker, folder, targets / "images")
        if not found:
            raise DataError(f"{folder.name} has no usable validation row")
        spaces[folder.name] = subspace(torch.stack(list(found.values())), step.rank)
        own = labels.get(folder.name) or [""] * (max(found) + 1)
        for position in found:
            name = f"{folder.name}/{own[position]}" if own[position] else folder.name
            tasks += [] if name in tasks else [name]
            groups.append(tasks.index(name))
    widths = {task: len(space.directions) for task, space in spaces.items()}
    rows = torch.block_diag(*(space.rows for space in spaces.values()))
    _save_columns(work.out, rows, tasks, groups)
    write_json(work.out / WIDTHS, widths)
    save_file({task: s.directions for task, s in spaces.items()}, work.out / DIRECTIONS)
    return pool_plan(step, work).chunk_names(work.chunks)


def _raw_rows(
    step: SubspaceGradients, work: Work, taker: Taker, folder: Path, images: Path
) -> dict[int, torch.Tensor]:
    """Return the raw gradients of the first usable rows of a task, by position."""
    batches = plan(step, work, folder, images)
    wanted = np.flatnonzero(batches.table.usable)[: step.validation_rows]
    room = require_room(len(wanted), taker.gradients.layout, None)
    collector = taker.collector(Unprojected(taker.gradients.layout))
    collector.limit_rows(room)
    (whole,) = batches.chunk_names(1)
    sink = _Raw(wanted)
    trainer = predict_trainer(f"gradients of {folder.name}", step.trainer)
    run_module(collector, sink, NumberedBatches(batches.loader(whole)), trainer)
    return dict(sorted(sink.rows.items()))


def _save_columns(out: Path, rows: torch.Tensor, tasks: list[str], groups: list[int]) -> None:
    """Write the validation rows' and the tasks' vectors, each of length one.

    A task's vector is the mean of its raw rows (GuanghuiMin/GIST, gist/matching_gist.py:54-69).
    """
    of_task = torch.nn.functional.one_hot(torch.tensor(groups), len(tasks)).float()
    means = (of_task.T @ rows) / of_task.sum(dim=0)[:, None]
    for name, vectors, own in (("rows", rows, groups), ("means", means, range(len(tasks)))):
        np.save(out / f"validation_{name}.npy", unit(vectors).numpy())
        write_json(out / f"validation_{name}.json", {"tasks": tasks, "groups": list(own)})


def fill(step: SubspaceGradients, work: Work, chunks: Iterator[str]) -> None:
    """Project the chunks that come onto every task's directions, each batch whole."""
    batches = pool_plan(step, work)
    stored = load_file(work.out / DIRECTIONS)
    order = list(read_json(work.out / WIDTHS) or {})
    vectors = torch.cat([stored[task] for task in order])
    directions = TaskDirections(tuple(map(str, range(len(vectors)))), vectors)
    taker: Taker | None = None
    for chunk in chunks:
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
            run(taker, writer, batches, chunk, step, work.out / SCORES, projection)


def close(step: SubspaceGradients, work: Work) -> Counts:
    """Scale each task's part of a row to length one; NaN where there is no gradient."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    seal(work.out / SCORES, np.flatnonzero(~table.usable))
    store: GradientStore = opened(work.out / SCORES)
    widths: dict[str, Any] = read_json(work.out / WIDTHS) or {}
    n, dim = len(store), store.info.dim
    rows = open_memmap(work.out / "rows.npy", "w+", np.dtype(np.float32), (n, dim))
    for start in range(0, n, BLOCK):
        block = store.read(start, min(start + BLOCK, n))
        scaled = [unit(part) for part in block.split(list(widths.values()), dim=1)]
        rows[start : start + len(block)] = torch.cat(scaled, dim=1).numpy()
    rows[~store.ok] = np.nan
    rows.flush()
    return {**store.info.rows, "rank": widths}
