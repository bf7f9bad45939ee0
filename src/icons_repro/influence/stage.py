"""Score, as steps: the influence of every pool row on every target task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool, Targets
from icons_repro.gradients.stage import Gradients, PoolGradients, TargetGradients
from icons_repro.training.stage import WarmUp


@dataclass(frozen=True, eq=False, kw_only=True)
class Influence(Step):
    """The mean cosine of every pool row with every target task's validation gradients."""

    stage = "influence"
    group = "score"

    pool: Pool
    targets: Targets
    train: PoolGradients
    validation: TargetGradients
    subtasks: list[str]
    """Tasks that are scored sub-task by sub-task."""
    raw: list[str]
    """Tasks whose validation gradients keep their length."""

    def run(self, work: Work) -> Counts:
        """Write `influence.parquet`."""
        from icons_repro.influence import jobs

        return jobs.from_stores(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectInfluence(Gradients):
    """Exact influence: unprojected gradients, scored as they are formed, none stored."""

    stage = "influence"

    pool: Pool
    targets: Targets
    val_direction: str
    subtasks: list[str]
    raw: list[str]

    def parts(self, work: Work) -> list[str]:
        """Take the tasks' directions, and name the chunks of the pool."""
        from icons_repro.influence import jobs

        return jobs.direct_parts(self, work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Score the chunks that come."""
        from icons_repro.influence import jobs

        jobs.fill_direct(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Write `influence.parquet`."""
        from icons_repro.influence import jobs

        return jobs.close_direct(self, work)


AnyInfluence = Influence | DirectInfluence


@dataclass(frozen=True, eq=False, kw_only=True)
class InfluenceOverEpochs(Step):
    """Influence summed over the epochs of the warm-up, by their mean learning rates (LESS).

    An epoch whose only step had a rate of zero changed nothing and has no weight.
    """

    stage = "influence"
    group = "score"

    warmup: WarmUp
    epoch: tuple[AnyInfluence, ...]

    def run(self, work: Work) -> Counts:
        """Write `influence.parquet`."""
        from icons_repro.influence import jobs

        return jobs.over_epochs(self, work)
