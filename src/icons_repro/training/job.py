"""What a training run is told, as a value that reads from JSON, and the batches that follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    TrainerSettings,
    TrainSettings,
)
from icons_repro.data.datamodule import Schedule, training_schedule
from icons_repro.data.dataset import ConversationDataset

COUNTED = ("rows", "steps", "trained_parameters", "unknown_words")
"""What of a run's summary a step's manifest repeats."""


@dataclass(frozen=True)
class FitJob:
    """Everything a training process needs; plain values, so that it travels as JSON."""

    model_dir: str
    records: str
    """Folder with `records.arrow`."""
    image_root: str
    positions: str
    """`.npy` file of pool positions, int64 `[k]`."""
    seed: int
    steps_as_rows: int | None = None
    """With `train.regime=same_steps`: take the steps that this many rows would take."""
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    """None trains every weight, for the tiny base alone."""
    train: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    stop_after: int | None = None
    """Optimizer steps to take of those planned; the learning rate goes on as if all were taken."""
    keep_epochs: bool = False
    """Keep the adapter of every epoch, in `epoch_N` beside the last one's."""
    keep_points: int | None = None
    """Keep the adapter at so many points of the run, evenly spread over its steps, in `point_N`
    beside the last one's."""

    @classmethod
    def from_json(cls, text: str) -> FitJob:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        raw["lora"] = LoraSettings(**raw["lora"]) if raw["lora"] else None
        raw["train"] = TrainSettings(**raw["train"])
        raw["data"] = DataSettings(**raw["data"])
        raw["trainer"] = TrainerSettings(**raw["trainer"])
        return cls(**raw)

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self), indent=2)


def counted(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step's manifest says of a training run."""
    return {key: summary[key] for key in COUNTED if summary.get(key, "") != ""}


def rows_of(job: FitJob) -> np.ndarray:
    """Return the pool positions that are trained on, int64 `[k]`."""
    if job.train.rows is not None and job.train.rows < 1:
        raise ConfigError(f"a training's rows={job.train.rows}: give 1 or more, or null for all.")
    positions: np.ndarray = np.load(job.positions)[: job.train.rows]
    return positions


def plan_schedule(
    job: FitJob, dataset: ConversationDataset, world_size: int = 1, rank: int = 0
) -> Schedule:
    """Return the micro-batches that this rank will see."""
    positions = rows_of(job)
    s = job.train
    max_steps = None
    if s.regime == "same_steps" and job.steps_as_rows:
        max_steps = -(-job.steps_as_rows // s.batch_size) * s.epochs
    return training_schedule(
        positions,
        dataset.table.words[positions],
        dataset.table.image_counts[positions] > 0,
        batch_size=s.batch_size,
        micro_batch=s.micro_batch,
        epochs=s.epochs,
        max_steps=max_steps,
        group_by_length=s.group_by_length,
        seed=job.seed,
        world_size=world_size,
        rank=rank,
    )
