"""Training as steps: the same loop on different rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from icons_repro.core.cache import Cache
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
