"""What the training steps do: write which rows, and run the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.settings import DataSettings, RecordPolicy
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable, build_records
from icons_repro.data.tiny.pretrain import write_corpus
from icons_repro.models.tiny import MAX_TOKENS, build_tiny_llava, save_tiny_llava, save_weights
from icons_repro.selection.base import budget_to_k
from icons_repro.training.fit import FitJob, fit
from icons_repro.training.stage import (
    FineTune,
    FullRunWarmUp,
    LoraTraining,
    Pretrain,
    SliceWarmUp,
)

COUNTED = ("rows", "steps", "trained_parameters")


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


def fine_tune(step: FineTune, work: Work) -> Counts:
    """Train on the selected rows."""
    return _train(step, work, np.load(work.path(step.selection) / "positions.npy"))


def _train(
    step: LoraTraining,
    work: Work,
    positions: np.ndarray,
    keep_epochs: bool = False,
    stop_after: int | None = None,
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
    )
    return _counted(fit(job, work.out, work.on_metrics))


def pretrain(step: Pretrain, work: Work) -> Counts:
    """Write the corpus and the first weights, and train all of them."""
    settings = step.settings
    corpus, records, first = (work.out / name for name in ("corpus", "records", "first"))
    if not (first / "config.json").is_file():
        _write_first(step, corpus, records, first)
    np.save(work.out / "positions.npy", np.arange(settings.rows))
    job = FitJob(
        model_dir=str(first),
        records=str(records),
        image_root=str(corpus / "images"),
        positions=str(work.out / "positions.npy"),
        seed=settings.seed,
        lora=None,
        train=settings.train,
        data=DataSettings(max_length=MAX_TOKENS),
        trainer=step.trainer,
    )
    counts = _counted(fit(job, work.out, work.on_metrics))
    save_weights(work.out, work.out / "shipped.safetensors")
    return counts


def _write_first(step: Pretrain, corpus: Path, records: Path, first: Path) -> None:
    settings = step.settings
    records.mkdir(exist_ok=True)
    write_corpus(corpus, settings.rows, settings.seed)
    no_check = RecordPolicy(check_images="none")
    build_records(corpus / "pretrain.json", corpus / "images", records, no_check)
    save_tiny_llava(build_tiny_llava(settings.seed, settings.width), first)


def _counted(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in COUNTED}
