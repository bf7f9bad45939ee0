"""What the training steps do: write which rows, and run the loop."""

from __future__ import annotations

import numpy as np

from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.selection.base import budget_to_k
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob, counted
from icons_repro.training.stage import (
    FineTune,
    FullRunWarmUp,
    LoraTraining,
    ProxyRun,
    SliceWarmUp,
)


def warm_up(step: SliceWarmUp, work: Work) -> Counts:
    """Draw the slice and train on it."""
    usable = np.flatnonzero(RecordTable(work.path(step.pool) / "records.arrow").usable)
    k = budget_to_k(step.fraction, len(usable))
    rows = np.random.default_rng(step.seed).choice(usable, size=k, replace=False)
    return _train(step, work, np.sort(rows), keep_epochs=True)


def part_of_full_run(step: FullRunWarmUp, work: Work) -> Counts:
    """Train on every usable row, for the first steps of that run."""
    usable = RecordTable(work.path(step.pool) / "records.arrow").usable
    return _train(step, work, np.flatnonzero(usable), stop_after=step.stop_after)


def proxy_run(step: ProxyRun, work: Work) -> Counts:
    """Train on every usable row and keep the adapter at several points of that run."""
    usable = RecordTable(work.path(step.pool) / "records.arrow").usable
    return _train(step, work, np.flatnonzero(usable), keep_points=step.points)


def fine_tune(step: FineTune, work: Work) -> Counts:
    """Train on the selected rows."""
    return _train(step, work, np.load(work.path(step.selection) / "positions.npy"))


def _train(
    step: LoraTraining,
    work: Work,
    positions: np.ndarray,
    keep_epochs: bool = False,
    stop_after: int | None = None,
    keep_points: int | None = None,
) -> Counts:
    records = work.path(step.pool)
    np.save(work.out / "positions.npy", positions)
    job = FitJob(
        model_dir=str(work.path(step.base)),
        records=str(records),
        image_root=str(records / "images"),
        positions=str(work.out / "positions.npy"),
        seed=step.seed,
        steps_as_rows=int(RecordTable(records / "records.arrow").usable.sum()),
        lora=step.lora,
        train=step.train,
        data=step.encoding,
        trainer=step.trainer,
        keep_epochs=keep_epochs,
        stop_after=stop_after,
        keep_points=keep_points,
    )
    return counted(fit(job, work.out, work.on_metrics))
