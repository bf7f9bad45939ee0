"""Extraction: a stream of batches -> per-sample gradients -> projection -> store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from icons_repro.gradients.attention import AttentionChoice
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.directions import Direction, SgdDirection
from icons_repro.gradients.identities import made_with, row_identities
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.module import GradientModule, RowSink
from icons_repro.gradients.numbered import NumberedBatches
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import StoreWriter, open_writer, seal
from icons_repro.models.batches import Batch
from icons_repro.models.trainer import quiet_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreOptions:
    """What a store is to hold beside the gradients, and how often it is saved."""

    n_rows: int | None = None
    """Rows of the store; the length of the data where it can tell."""
    keys: Sequence[str] | np.ndarray | None = None
    """Content keys of the rows `[n_rows]`; row numbers where the data have none."""
    dtype: str = "float16"
    """`float32`, `float16`, `bfloat16`, `int8` or `bit1`."""
    identities: Mapping[str, Any] | None = None
    """Fingerprints of what the rows depend on, at least `model` and `adapter`; hashes of the
    model's config and of the chosen parameters where left out."""
    unusable: Sequence[int] | np.ndarray = ()
    """Positions whose records no batch will bring; recorded as such."""
    flush_seconds: float = 5.0
    """How much work a kill may cost."""


@dataclass(frozen=True)
class Running:
    """What runs the loop over the batches, and what it knows of the device's memory."""

    trainer: lightning.Trainer | None = None
    """With its devices and callbacks; a quiet one with a progress bar unless given."""
    limits: TokenLimits | None = None
    """What is remembered of batches that did not fit (see `RowCollector`)."""


def extract(
    gradients: PerSampleGradients,
    projection: Projection,
    data: Iterable[Batch] | torch.Tensor,
    folder: Path | str,
    *,
    direction: Direction | None = None,
    store: StoreOptions | None = None,
    running: Running | None = None,
) -> GradientStore:
    """Fill a gradient store, or finish one that a kill left incomplete, and open it.

    Args:
        gradients: what takes the gradients.
        projection: what shortens the rows to `[d]`.
        data: a DataLoader or any iterable of batches (see `batches.Batch`; without `positions`
            rows are counted up), or token ids `[M, L]` of which every token is supervised.
        folder: where the store is or is to be.
        direction: SGD unless given (`directions.py`).
        store: what else the store is to hold.
        running: the loop's trainer and memory.

    A store keeps the attention kernel it was begun with (`gradients.attention`). Rows that an
    earlier run gave up as out of memory are tried again if a batch brings them.

    Raises:
        DataError: too small a disk, a store of something else, or rows that no batch brought.
    """
    direction = direction or SgdDirection()
    store, running = store or StoreOptions(), running or Running()
    collector = RowCollector(gradients, projection, direction, limits=running.limits)
    batches = NumberedBatches(data)
    runner = running.trainer or default_trainer()
    writer = open_writer(
        folder,
        n_rows=batches.rows() if store.n_rows is None else store.n_rows,
        dim=projection.dim,
        dtype=store.dtype,
        identities=row_identities(gradients, projection, direction, store.identities),
        keys=store.keys,
        flush_seconds=store.flush_seconds,
        made_with=made_with(gradients, runner),
    )
    with writer:
        writer.exclude(store.unusable, RowStatus.unusable)
        if len(writer.pending()):
            fill(writer, collector, batches, runner)
    seal(folder)
    return opened(folder)


def fill(
    writer: StoreWriter,
    collector: RowCollector,
    batches: NumberedBatches,
    trainer: lightning.Trainer,
) -> None:
    """Run batches into an open store, by the attention kernel that it was begun with."""
    if begun_with := writer.info.made_with.get("attention"):
        collector.gradients.attention = AttentionChoice.from_json(begun_with)
    run_module(collector, writer, batches, trainer)


def opened(folder: Path | str) -> GradientStore:
    """Open a complete store, and say which rows it left out."""
    store = GradientStore.open(folder)
    for position, reason in store.excluded()[:20]:
        log.warning("%s: position %d has no gradient: %s", _called(folder), position, reason)
    left_out = {status: rows for status, rows in store.info.rows.items() if status != "ok"}
    if left_out:
        log.info("%s: rows without a gradient: %s", _called(folder), left_out)
    return store


def _called(folder: Path | str) -> str:
    """Return a store's name for people: what is not finished yet goes by its stage."""
    path = Path(folder)
    return path.parent.name if path.name.endswith(".part") else path.name


def run_module(
    collector: RowCollector,
    sink: RowSink,
    batches: NumberedBatches,
    trainer: lightning.Trainer | None = None,
) -> None:
    """Run all batches through the collector into the sink, with a progress bar."""
    runner = trainer or default_trainer()
    runner.predict(GradientModule(collector, sink), batches, return_predictions=False)


def default_trainer() -> lightning.Trainer:
    """Return a quiet Trainer with a progress bar, on whatever device there is."""
    return quiet_trainer(
        accelerator="auto",
        devices=1,
        callbacks=[TQDMProgressBar(refresh_rate=1, leave=False)],
    )
