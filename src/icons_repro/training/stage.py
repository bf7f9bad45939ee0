"""Training as steps: the same loop on different rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    TrainerSettings,
    TrainSettings,
)
from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.models.stage import Base
from icons_repro.selection.stage import Select


class TrainingStep(Step):
    """A step whose attempt may be several processes on several nodes."""

    resumable = True

    def join(self, cache: Cache) -> None:
        """Train as one of the other ranks."""
        from icons_repro.training.worker import join

        join(cache.path(self), partial(cache.is_ready, self))


@dataclass(frozen=True, eq=False, kw_only=True)
class LoraTraining(TrainingStep):
    """LoRA on some rows of the pool, from the base model."""

    base: Base
    pool: Pool
    train: TrainSettings
    lora: LoraSettings
    encoding: DataSettings
    trainer: TrainerSettings
    seed: int
    """Of training, and of the draw of rows, if it makes one."""


class WarmUp(LoraTraining):
    """The point that gradients are taken at."""

    stage = "warmup"
    group = "warmup"
    weight = 6.0


@dataclass(frozen=True, eq=False, kw_only=True)
class SliceWarmUp(WarmUp):
    """LoRA on a small random slice of the pool. The adapters of all epochs are kept."""

    fraction: float

    def run(self, work: Work) -> Counts:
        """Write an adapter folder."""
        from icons_repro.training import jobs

        return jobs.warm_up(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class FullRunWarmUp(WarmUp):
    """The adapter of a run over the whole pool, as it stands after some of its steps.

    ICONS' released scripts take gradients at such a one, `llava_lora_full/checkpoint-500`
    (princetonvisualai/icons, scripts/0_get_training_data_grads.sh:4-6).
    """

    stop_after: int
    """Optimizer steps."""

    @property
    def label(self) -> str:
        """Which step."""
        return f"full run, step {self.stop_after}"

    def run(self, work: Work) -> Counts:
        """Write an adapter folder."""
        from icons_repro.training import jobs

        return jobs.part_of_full_run(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class ProxyRun(WarmUp):
    """A run over the whole pool that keeps its adapter at points spread over its steps.

    XMAS watches its proxy at such points (BigML-CS-UCLA/XMAS, XMAS/scripts/train/finetune.sh,
    `save_steps`).
    """

    points: int
    """Adapters kept, the last one's included."""

    @property
    def label(self) -> str:
        """How often it is looked at."""
        return f"full run, {self.points} points"

    def run(self, work: Work) -> Counts:
        """Write an adapter folder."""
        from icons_repro.training import jobs

        return jobs.proxy_run(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class FineTune(LoraTraining):
    """LoRA on a selection, with the same recipe for every method."""

    stage = "finetune"
    group = "finetune"

    selection: Select

    @property
    def label(self) -> str:
        """The selection's."""
        return self.selection.label

    @property
    def effort(self) -> float:
        """Follows the share of the pool that is trained on."""
        return 2.0 + 50.0 * float(self.selection.budget)

    def run(self, work: Work) -> Counts:
        """Write an adapter folder."""
        from icons_repro.training import jobs

        return jobs.fine_tune(self, work)


def check_batches(steps: Iterable[Step]) -> None:
    """Raise `ConfigError` unless each training's batch divides over the devices' micro-batches."""
    for step in steps:
        if step.stage == "pretrain":
            recipe: Any = step
            check_batch("pretrain.train", recipe.settings.train, recipe.trainer)
        elif isinstance(step, SliceWarmUp):
            check_batch("warmup.train", step.train, step.trainer)
        elif isinstance(step, FineTune | FullRunWarmUp | ProxyRun):
            check_batch("finetune", step.train, step.trainer)


def check_batch(key: str, recipe: TrainSettings, trainer: TrainerSettings) -> None:
    """Raise `ConfigError` unless the global batch divides over the devices' micro-batches."""
    devices = trainer.devices * trainer.num_nodes
    if recipe.batch_size % (recipe.micro_batch * devices):
        raise ConfigError(
            f"{key}.batch_size={recipe.batch_size} does not divide into micro-batches of "
            f"{key}.micro_batch={recipe.micro_batch} on {devices} device(s): choose a multiple of "
            f"{recipe.micro_batch * devices}, or another micro_batch."
        )
