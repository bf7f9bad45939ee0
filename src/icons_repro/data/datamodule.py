"""A LightningDataModule over any selection of a pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import DataSettings
from icons_repro.data.batching import (
    Batches,
    FixedBatches,
    modality_length_batches,
    random_batches,
    split_for_ranks,
    token_budget_batches,
)
from icons_repro.data.dataset import Collator, ConversationDataset
from icons_repro.data.encoders import make_collator, make_encoder
from icons_repro.data.records import RecordTable
from icons_repro.data.workers import batch_loader
from icons_repro.models.batches import Batch
from icons_repro.models.families import family_of
from icons_repro.models.llava import load_processor


def open_dataset(
    records: Path, image_root: Path, model_dir: Path, settings: DataSettings
) -> tuple[ConversationDataset, Collator]:
    """Open `records/records.arrow` for the processor in `model_dir`."""
    family, processor = family_of(model_dir), load_processor(model_dir)
    encoder = make_encoder(family, processor, settings)
    dataset = ConversationDataset(RecordTable(records / "records.arrow"), image_root, encoder)
    return dataset, make_collator(family, processor, settings)


@dataclass(frozen=True)
class Schedule:
    """Every micro-batch of a training run, in order, for one rank."""

    batches: Batches
    accumulate: int
    """Micro-batches to one optimizer step."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return -(-len(self.batches) // self.accumulate)


def accumulation(batch_size: int, micro_batch: int, devices: int) -> int:
    """Return a device's micro-batches to one step. Raises `ConfigError` if that is no number."""
    accumulate, remainder = divmod(batch_size, devices * micro_batch)
    if remainder or not accumulate:
        raise ConfigError(
            f"a global batch of {batch_size} does not divide into {devices} device(s) x "
            f"micro-batches of {micro_batch}; choose a micro_batch that does."
        )
    return accumulate


def training_schedule(
    positions: np.ndarray,
    words: np.ndarray,
    has_image: np.ndarray,
    *,
    batch_size: int,
    micro_batch: int,
    epochs: int,
    max_steps: int | None,
    group_by_length: bool,
    seed: int,
    world_size: int = 1,
    rank: int = 0,
) -> Schedule:
    """Plan training on `positions` `[k]`: `epochs` passes, or `max_steps` steps of as many passes.

    `words` and `has_image` are `[k]`, aligned with `positions`. The global batch must divide into
    `world_size` x `micro_batch`: see `accumulation`.
    """
    accumulate = accumulation(batch_size, micro_batch, world_size)
    rng = np.random.default_rng(seed)
    per_pass = -(-len(positions) // batch_size)
    passes = epochs if max_steps is None else -(-max_steps // per_pass)
    whole: Batches = []
    for _ in range(passes):
        if group_by_length:
            whole += modality_length_batches(words, has_image, batch_size, rng)
        else:
            whole += random_batches(len(positions), batch_size, rng)
    mine: Batches = []
    for batch in whole[:max_steps]:
        parts = split_for_ranks(positions[batch], world_size * accumulate)
        mine += parts[rank::world_size]
    return Schedule(mine, accumulate)


@dataclass(frozen=True)
class PassPlan:
    """The batches of one pass without training, planned once over all rows, cut into chunks.

    A row's batch, and so its rounding, does not depend on the chunks. The order of batches carries
    no meaning, since every batch brings its rows' positions.
    """

    table: RecordTable
    dataset: Dataset[Any]
    """Indexed by position."""
    collate: Callable[[Any], Batch]
    batches: Batches
    workers: int = 0
    cut: Callable[[np.ndarray], Batches] | None = None
    """Cuts a batch into those that are run."""

    @classmethod
    def of(
        cls,
        dataset: ConversationDataset,
        collate: Collator,
        positions: np.ndarray,
        token_budget: int,
        workers: int = 0,
        begun_with: int | None = None,
    ) -> PassPlan:
        """Plan batches of similar length; lengths are estimated from words and images.

        A pass that was begun with another budget keeps its batches, since chunks are made of them;
        where the budget is lower now they are cut.
        """
        table, image = dataset.table, dataset.encoder.image_length
        lengths = table.words + table.image_counts * image

        def cut(rows: np.ndarray, budget: int = token_budget) -> Batches:
            return [rows[own] for own in token_budget_batches(lengths[rows], budget)]

        begun = begun_with or token_budget
        plan = cls(table, dataset, collate, cut(positions, begun), workers)
        return replace(plan, cut=cut) if token_budget < begun else plan

    @property
    def rows(self) -> np.ndarray:
        """Positions of the rows that the pass brings, int64."""
        return np.concatenate([np.empty(0, np.int64), *self.batches])

    def chunk_names(self, chunks: int) -> list[str]:
        """Name chunks of nearly equal work: each takes every n-th batch."""
        n = max(1, min(chunks, len(self.batches)))
        return [f"{i:05d}-of-{n:05d}" for i in range(n)]

    def loader(
        self, chunk: str, remaining: Callable[[Batches], Any] | None = None
    ) -> DataLoader[Batch]:
        """Return a loader over a chunk's batches; `remaining` drops those that are done already."""
        first, step = (int(number) for number in chunk.split("-of-"))
        batches = self.batches[first::step]
        if self.cut:
            batches = [part for batch in batches for part in self.cut(batch)]
        left = FixedBatches(remaining(batches) if remaining else batches)
        return batch_loader(self.dataset, left, self.collate, self.workers)

    def title(self, what: str, chunk: str) -> str:
        """Name a chunk on the screen."""
        first, step = (int(number) for number in chunk.split("-of-"))
        return what if step == 1 else f"{what} {first + 1}/{step}"


class PoolDataModule(L.LightningDataModule):
    """Feeds a planned schedule of rows; resumes where a checkpoint left it."""

    def __init__(
        self, dataset: ConversationDataset, collate: Collator, schedule: Schedule, workers: int = 0
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.collate = collate
        self.schedule = schedule
        self.workers = workers
        self.start = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader over the schedule's micro-batches."""
        batches = FixedBatches(self.schedule.batches, self.start)
        return batch_loader(self.dataset, batches, self.collate, self.workers)

    def state_dict(self) -> dict[str, Any]:
        """Return how many optimizer steps are done; Lightning stores it in its checkpoints."""
        assert self.trainer is not None
        return {"steps": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the steps that the checkpoint holds."""
        self.start = state_dict["steps"] * self.schedule.accumulate
