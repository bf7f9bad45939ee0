"""Features that a model gives, as steps: the arrays that the baselines read, each made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from icons_repro.core.refs import Ref
from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    SelfFilterSettings,
    TrainerSettings,
)
from icons_repro.core.step import Counts, SharedStep, Step, placement
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool, Targets
from icons_repro.models.stage import Base
from icons_repro.training.stage import ProxyRun, WarmUp


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolPass(SharedStep):
    """One pass of a model over the pool, cut into chunks of its batches."""

    group = "features"

    pool: Pool

    def parts(self, work: Work) -> list[str]:
        """Name the chunks."""
        from icons_repro.features import jobs

        return jobs.chunk_names(self, work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Run the chunks that come."""
        from icons_repro.features import jobs

        jobs.fill(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Close the arrays."""
        from icons_repro.features import jobs

        return jobs.close(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class LlavaPass(PoolPass):
    """A pass of the warm-up model, or of the base where there is no `warmup`."""

    base: Base
    warmup: WarmUp | None
    encoding: DataSettings
    trainer: TrainerSettings
    dtype: str
    """Of the stored vectors."""
    token_budget: int = placement()


@dataclass(frozen=True, eq=False, kw_only=True)
class ForwardPass(LlavaPass):
    """Loss, EL2N, margin and the last hidden layer of every row."""

    stage = "forward"
    version = 2  # hidden_weighted


@dataclass(frozen=True, eq=False, kw_only=True)
class CoincidePass(LlavaPass):
    """COINCIDE's attention outputs of every row."""

    stage = "coincide"

    layers: list[int] | None
    """None takes those at one to five sixths of the depth."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SpectrumPass(LlavaPass):
    """Singular values of every row's token states."""

    stage = "spectrum"


@dataclass(frozen=True, eq=False, kw_only=True)
class VisionTokenPass(LlavaPass):
    """Image tokens of every row after the language model's first layer."""

    stage = "vision_tokens"


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionPass(PoolPass):
    """The top singular values of every row's cross-modal attention, at one point of a run."""

    stage = "cross_attention"

    base: Base
    warmup: ProxyRun
    point: int | None
    """None is the run's end."""
    encoding: DataSettings
    trainer: TrainerSettings
    token_budget: int = placement()

    @property
    def label(self) -> str:
        """Which point."""
        return f"point {self.warmup.points if self.point is None else self.point}"


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionTrajectory(Step):
    """The singular values of all points side by side, in the run's order."""

    stage = "attention_trajectory"
    group = "features"
    light = True

    point: tuple[AttentionPass, ...]

    def run(self, work: Work) -> Counts:
        """Write `trajectory.npy`, float32 `[N, points, K]`."""
        from icons_repro.features.trajectory import gather_points

        return gather_points([work.path(step) for step in self.point], work.out)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipPass(PoolPass):
    """CLIP's embedding of every row's image and text."""

    stage = "clip"

    clip: Ref
    trainer: TrainerSettings
    workers: int = placement(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImagePass(PoolPass):
    """A vision encoder's class token of every row's image."""

    stage = "image_cls"

    encoder: Ref
    trainer: TrainerSettings
    workers: int = placement(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class QuestionPass(LlavaPass):
    """Losses with and without the question, of the warm-up's own rows that have an image."""

    stage = "question_losses"

    warmup: WarmUp


@dataclass(frozen=True, eq=False, kw_only=True)
class SelfFilter(Step):
    """Self-Filter's difficulty of every row: its score net, trained while the base is tuned."""

    stage = "self_filter"
    group = "features"
    resumable = True

    base: Base
    pool: Pool
    clip: ClipPass
    settings: SelfFilterSettings
    lora: LoraSettings | None
    """None trains every weight."""
    encoding: DataSettings
    trainer: TrainerSettings

    def run(self, work: Work) -> Counts:
        """Write `difficulty.npy` and the score net."""
        from icons_repro.features import jobs

        return jobs.self_filter(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetPass(SharedStep):
    """One pass of a model over the target tasks' validation rows; a part is a task."""

    group = "features"
    natural_parts = 8

    targets: Targets

    def parts(self, work: Work) -> list[str]:
        """Name the tasks."""
        return self.targets.made_tasks(work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Run the tasks that come."""
        from icons_repro.features import jobs

        jobs.fill_targets(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Count the rows of each task."""
        from icons_repro.features import jobs

        return jobs.count_targets(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetForwardPass(TargetPass):
    """What `ForwardPass` gives, of the validation rows."""

    stage = "target_forward"

    base: Base
    warmup: WarmUp | None
    encoding: DataSettings
    trainer: TrainerSettings
    dtype: str
    token_budget: int = placement()


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetClipPass(TargetPass):
    """What `ClipPass` gives, of the validation rows."""

    stage = "target_clip"

    clip: Ref
    trainer: TrainerSettings
    workers: int = placement(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class ValuePass(LlavaPass):
    """For-Value's products of every pool row with the validation rows, or with each task's mean."""

    stage = "forward_value"

    targets: Targets
    subtasks: list[str]
    by_row: bool
    """A column for each validation row; else one for each task."""

    def parts(self, work: Work) -> list[str]:
        """Keep what the pool's rows are multiplied with; name the chunks."""
        from icons_repro.features import jobs

        return jobs.value_parts(self, work)

    def finish(self, work: Work) -> Counts:
        """Close the array and name its columns."""
        from icons_repro.features import jobs

        return jobs.close_values(self, work)
