"""Extraction: a stream of batches -> per-sample gradients -> projection -> store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from icons_repro.core.errors import DataError
from icons_repro.gradients.attention import AttentionChoice
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.directions import Direction, SgdDirection
from icons_repro.gradients.memory import TokenLimits, device_name
from icons_repro.gradients.module import GradientModule, RowSink
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import StoreWriter, open_writer, seal
from icons_repro.models.batches import Batch
from icons_repro.models.trainer import quiet_trainer

log = logging.getLogger(__name__)


def extract(
    gradients: PerSampleGradients,
    projection: Projection,
    data: Iterable[Batch] | torch.Tensor,
    folder: Path | str,
    *,
    n_rows: int | None = None,
    keys: Sequence[str] | np.ndarray | None = None,
    dtype: str = "float16",
    identities: Mapping[str, Any] | None = None,
    direction: Direction | None = None,
    unusable: Sequence[int] | np.ndarray = (),
    trainer: lightning.Trainer | None = None,
    flush_seconds: float = 5.0,
    limits: TokenLimits | None = None,
) -> GradientStore:
    """Fill a gradient store, or finish one that a kill left incomplete, and open it.

    Args:
        gradients: what takes the gradients.
        projection: what shortens the rows to `[d]`.
        data: a DataLoader or any iterable of batches (see `batches.Batch`; without `positions`
            rows are counted up), or token ids `[M, L]` of which every token is supervised.
        folder: where the store is or is to be.
        n_rows: rows of the store; the length of the data where it can tell.
        keys, dtype, flush_seconds: see `open_writer`.
        identities: fingerprints of what the rows depend on, at least `model` and `adapter`;
            hashes of the model's config and of the chosen parameters where left out.
        direction: SGD unless given (`directions.py`).
        unusable: positions whose records no batch will bring; recorded as such.
        trainer: runs the loop, with its devices and callbacks; a quiet one with a progress bar
            unless given.
        limits: what is remembered of batches that did not fit in memory (see `RowCollector`).

    A store keeps the attention kernel it was begun with (`gradients.attention`). Rows that an
    earlier run gave up as out of memory are tried again if a batch brings them.

    Raises:
        DataError: too small a disk, a store of something else, or rows that no batch brought.
    """
    direction = direction or SgdDirection()
    collector = RowCollector(gradients, projection, direction, limits=limits)
    batches = NumberedBatches(data)
    runner = trainer or default_trainer()
    writer = open_writer(
        folder,
        n_rows=batches.rows() if n_rows is None else n_rows,
        dim=projection.dim,
        dtype=dtype,
        identities=row_identities(gradients, projection, direction, identities),
        keys=keys,
        flush_seconds=flush_seconds,
        made_with=made_with(gradients, runner),
    )
    with writer:
        writer.exclude(unusable, RowStatus.unusable)
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
        log.warning("%s: position %d has no gradient: %s", folder, position, reason)
    log.info("%s: %s", folder, dict(store.info.rows))
    return store


def run_module(
    collector: RowCollector,
    sink: RowSink,
    batches: NumberedBatches,
    trainer: lightning.Trainer | None = None,
) -> None:
    """Run all batches through the collector into the sink, with a progress bar."""
    runner = trainer or default_trainer()
    runner.predict(GradientModule(collector, sink), batches, return_predictions=False)


class NumberedBatches:
    """Batches with `positions` and `attention_mask`, from whatever the caller has."""

    def __init__(self, data: Iterable[Batch] | torch.Tensor, batch_size: int = 8) -> None:
        self._data = data
        self._batch_size = batch_size

    def __len__(self) -> int:
        if isinstance(self._data, torch.Tensor):
            return -(-len(self._data) // self._batch_size)
        return len(self._data)  # type: ignore[arg-type]

    def rows(self) -> int:
        """Return how many rows all batches have together.

        Raises:
            DataError: the data cannot tell; the caller must say.
        """
        sized = self._data if isinstance(self._data, (torch.Tensor, list, tuple)) else None
        if isinstance(sized, torch.Tensor):
            return len(sized)
        if sized is not None:
            return sum(len(batch["input_ids"]) for batch in sized)
        dataset = getattr(self._data, "dataset", None)
        if dataset is None:
            raise DataError("how many rows are there? Pass n_rows: the batches do not tell.")
        return len(dataset)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        seen = 0
        for batch in self._plain():
            ids = batch["input_ids"]
            numbers = torch.arange(seen, seen + len(ids))
            seen += len(ids)
            yield {"attention_mask": torch.ones_like(ids), "positions": numbers, **batch}

    def _plain(self) -> Iterator[Batch]:
        if not isinstance(self._data, torch.Tensor):
            yield from self._data
            return
        for ids in self._data.split(self._batch_size):
            yield {"input_ids": ids, "labels": ids}


def parameter_fingerprint(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return 16 hexadecimal characters that change with any parameter's name or value."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in parameters.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def row_identities(
    gradients: PerSampleGradients,
    projection: Projection,
    direction: Direction,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the rows of a store depend on, for `open_writer`: see `extract`."""
    identities = dict(given or {})
    if "model" not in identities:
        config: Any = gradients.model.config
        text = config.to_json_string()
        identities["model"] = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    if "adapter" not in identities:
        identities["adapter"] = parameter_fingerprint(gradients.parameters)
    return {**identities, "projection": projection.identity(), "direction": direction.identity()}


def made_with(gradients: PerSampleGradients, runner: lightning.Trainer) -> dict[str, Any]:
    """Return what a store's rows do not depend on, but for rounding: where and by which kernels."""
    made = {"device": device_name(runner.strategy.root_device), "precision": str(runner.precision)}
    choice = gradients.attention
    return made if choice is None else {**made, "attention": choice.to_json()}


def default_trainer() -> lightning.Trainer:
    """Return a quiet Trainer with a progress bar, on whatever device there is."""
    return quiet_trainer(
        accelerator="auto",
        devices=1,
        callbacks=[TQDMProgressBar(refresh_rate=1)],
    )
