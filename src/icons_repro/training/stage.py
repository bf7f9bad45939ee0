"""Training as steps: the same loop on different rows."""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    PretrainSettings,
    TrainerSettings,
    TrainSettings,
)
from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.models.stage import Base
from icons_repro.selection.stage import Select


@dataclass(frozen=True, eq=False, kw_only=True)
class WarmUp(Step):
    """LoRA on a small random slice of the pool: the point that gradients are taken at.

    The adapters of all epochs are kept.
    """

    stage = "warmup"
    group = "warmup"
    resumable = True
    weight = 6.0

    base: Base
    pool: Pool
    train: TrainSettings
    lora: LoraSettings
    encoding: DataSettings
    trainer: TrainerSettings
    fraction: float
    seed: int
    """Of the draw and of training."""

    def run(self, work: Work) -> Counts:
        """Write an adapter folder."""
        from icons_repro.training import jobs

        return jobs.warm_up(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class FineTune(Step):
    """LoRA on a selection, from the base model, with the same recipe for every method."""

    stage = "finetune"
    group = "finetune"
    resumable = True

    base: Base
    pool: Pool
    selection: Select
    train: TrainSettings
    lora: LoraSettings
    encoding: DataSettings
    trainer: TrainerSettings
    seed: int

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Pretrain(Step):
    """The tiny base, from random weights and the pre-training corpus; every weight is trained."""

    stage = "pretrain"
    group = "pretrain"
    resumable = True

    settings: PretrainSettings
    trainer: TrainerSettings

    def run(self, work: Work) -> Counts:
        """Write the model, and `shipped.safetensors`, which the package ships."""
        from icons_repro.training import jobs

        return jobs.pretrain(self, work)
