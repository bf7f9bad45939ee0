"""Extract, as steps: gradient stores of the pool and of the target tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from icons_repro.core.settings import DataSettings, TrainerSettings
from icons_repro.core.step import Counts, SharedStep, Step, placement
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool, Targets
from icons_repro.models.stage import Base
from icons_repro.training.stage import WarmUp


@dataclass(frozen=True, kw_only=True)
class GradientRecipe:
    """Which gradients, and what is kept of them."""

    parameters: str
    per_sample: Literal["batched", "loop"]
    direction: str
    """`sgd`, `adam` or `sign`."""
    projection: Mapping[str, Any]
    dtype: str
    epoch: int | None = None
    """The warm-up's epoch that they are taken after, from 1; None is its end."""
    token_budget: int = placement(4096)
    gradient_checkpointing: bool = placement(False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Gradients(SharedStep):
    """Per-sample gradients at the warm-up model, stored or scored as they are formed."""

    group = "extract"

    base: Base
    warmup: WarmUp
    recipe: GradientRecipe
    encoding: DataSettings
    trainer: TrainerSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolGradients(Gradients):
    """One row for each row of the pool, in one store, cut into chunks of its batches."""

    stage = "gradients"
    weight = 20.0

    pool: Pool

    def parts(self, work: Work) -> list[str]:
        """Name the chunks."""
        from icons_repro.gradients import jobs

        return jobs.chunk_names(self, work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Take the gradients of the chunks that come."""
        from icons_repro.gradients import jobs

        jobs.fill_pool(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Close the store."""
        from icons_repro.gradients import jobs

        return jobs.close_pool(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetGradients(Gradients):
    """One store for each target task; a part is a task."""

    stage = "target_gradients"
    natural_parts = 8

    targets: Targets

    def parts(self, work: Work) -> list[str]:
        """Name the tasks."""
        return self.targets.made_tasks(work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Take the gradients of the tasks that come."""
        from icons_repro.gradients import jobs

        jobs.fill_targets(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Count the rows of each task."""
        from icons_repro.gradients import jobs

        return jobs.count_targets(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class Curvature(Step):
    """K-FAC's or EK-FAC's factors of the adapter's weights, from some rows of the pool."""

    stage = "curvature"
    group = "extract"

    base: Base
    warmup: WarmUp
    recipe: GradientRecipe
    encoding: DataSettings
    trainer: TrainerSettings
    pool: Pool
    kind: Literal["kfac", "ekfac"]
    samples: int
    """Rows, drawn at random."""
    seed: int

    def run(self, work: Work) -> Counts:
        """Write `curvature.safetensors`."""
        from icons_repro.gradients.curvature import jobs

        return jobs.fit(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class CurvedPoolGradients(PoolGradients):
    """Gradients of the pool times a power of the inverse curvature."""

    curvature: Curvature
    damping: float
    power: float


@dataclass(frozen=True, eq=False, kw_only=True)
class CurvedTargetGradients(TargetGradients):
    """Gradients of the target tasks times a power of the inverse curvature."""

    curvature: Curvature
    damping: float
    """Times the mean eigenvalue of a weight, added to its eigenvalues."""
    power: float
    """-1 is the inverse, -0.5 its root."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceGradients(Step):
    """A gradient store as plain arrays, for a selector: unit rows, and their lengths before."""

    stage = "instance_gradients"
    group = "features"

    store: PoolGradients

    def run(self, work: Work) -> Counts:
        """Write `rows.npy` float16 `[N, d]` and `norms.npy` float32 `[N]`."""
        from icons_repro.gradients import jobs

        return jobs.as_arrays(work.path(self.store), work.out)
