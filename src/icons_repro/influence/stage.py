"""Score, as steps: the influence of every pool row on every target task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, eq=False, kw_only=True)
class RowSource(Step):
    """Influence by validation row, as what has to be multiplied (`influence/rows/files.py`)."""

    stage = "influence_rows"
    group = "score"

    pool: Pool
    targets: Targets
    subtasks: list[str]
    """Tasks whose columns are named by sub-task."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingRows(RowSource):
    """Pool rows and validation rows in one space, compared by cosine."""

    rows: Step
    """Makes an array `NAME.npy` `[N, d]` for each of `arrays`."""
    validation: Step
    """Makes `TASK/NAME.npy` `[M, d]`."""
    arrays: tuple[str, ...]
    missing: Literal["exclude", "zero"] = "exclude"
    """What becomes of a row that lacks one of several arrays."""

    def run(self, work: Work) -> Counts:
        """Write `columns.json` and the validation rows; link the pool's."""
        from icons_repro.influence.rows import jobs

        return jobs.embedding_rows(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientRows(RowSource):
    """The gradient stores of one checkpoint, or of the epochs, weighted by their learning rates."""

    train: tuple[PoolGradients, ...]
    validation: tuple[TargetGradients, ...]
    raw: list[str]
    """Tasks whose validation gradients keep their length."""
    warmup: WarmUp | None = None
    """Where there are several: says the learning rate of each epoch."""

    def run(self, work: Work) -> Counts:
        """Write `columns.json` and the validation gradients; link the pool's."""
        from icons_repro.influence.rows import jobs

        return jobs.gradient_rows(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class SubspaceGradients(Gradients):
    """GIST: the pool's gradients in the subspace of each task's validation gradients."""

    stage = "subspace_gradients"
    weight = 20.0

    pool: Pool
    targets: Targets
    rank: int
    """Singular vectors of each task."""
    validation_rows: int | None
    """Validation rows of each task, the first; None is all of them."""
    subtasks: list[str]

    def parts(self, work: Work) -> list[str]:
        """Decompose the tasks' gradients, and name the chunks of the pool."""
        from icons_repro.influence.subspace import jobs

        return jobs.parts(self, work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Project the chunks that come."""
        from icons_repro.influence.subspace import jobs

        jobs.fill(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Write `rows.npy`, scaled to length one in each task's subspace."""
        from icons_repro.influence.subspace import jobs

        return jobs.close(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class MadeRows(RowSource):
    """Products, or rows in the targets' own spaces, that another step has made."""

    made: Step
    """Leaves `COLUMNS.json` with tasks and groups, and its arrays."""
    kind: Literal["matrix", "arrays"]
    """Products themselves (`values.npy`), or `rows.npy` and `COLUMNS.npy` to multiply with."""
    columns: str = "columns"

    def run(self, work: Work) -> Counts:
        """Write `columns.json`; link the arrays."""
        from icons_repro.influence.rows import jobs

        return jobs.made_rows(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bm25Rows(RowSource):
    """The BM25 weight of every word in every pool row, and the words of the validation rows."""

    k1: float
    b: float
    method: str
    light = True

    def run(self, work: Work) -> Counts:
        """Write `columns.json`, and both sides as sparse matrices."""
        from icons_repro.influence.rows import jobs

        return jobs.bm25_rows(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class MeanInfluence(Step):
    """Influence on each task: the mean over its validation rows."""

    stage = "influence"
    group = "score"

    pool: Pool
    rows: Step
    """Leaves what `influence/rows/files.py` reads."""

    def run(self, work: Work) -> Counts:
        """Write `influence.parquet`."""
        from icons_repro.influence.rows import jobs

        return jobs.mean_influence(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnRows(Step):
    """The pool's rows as a source of the user's own embeds them."""

    stage = "own_rows"
    group = "features"

    pool: Pool
    source: Mapping[str, Any]
    """Its config: `_target_` and arguments."""

    def run(self, work: Work) -> Counts:
        """Write `rows.npy` float32 `[N, d]`, NaN for unusable rows."""
        from icons_repro.influence.rows import jobs

        pool = work.path(self.pool)
        return jobs.own_rows(self.source, pool, pool / "images", work.out)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnTargetRows(Step):
    """The target tasks' rows as a source of the user's own embeds them."""

    stage = "own_target_rows"
    group = "features"

    targets: Targets
    source: Mapping[str, Any]

    def run(self, work: Work) -> Counts:
        """Write `TASK/rows.npy` for each task."""
        from icons_repro.influence.rows import jobs

        return jobs.own_target_rows(self, work)
