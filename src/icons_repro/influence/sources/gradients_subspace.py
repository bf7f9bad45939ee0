"""GIST: gradients in the subspace of the validation gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step
from icons_repro.influence.sources.base import Source, Wiring
from icons_repro.influence.stage import MadeRows, MeanInfluence, SubspaceGradients


@dataclass(frozen=True)
class GradientsSubspace(Source):
    """cos of gradients projected onto the leading singular vectors of a task's own.

    Formula: G_k = U S V^T of task k's raw validation gradients [M, D]; z = V_r^T g; influence is
    cos(z, mean of the rows of U_r S_r). Source: GIST (Min et al. 2026, arXiv:2602.18584),
    GuanghuiMin/GIST, gist/get_gist_gradients.py:147-251, gist/matching_gist.py:52-103. Its README
    takes r = 9 and 300 validation rows for TyDiQA; its default is 150. Cost: one forward and
    backward pass over pool and validation rows, and T r products with unprojected gradients a row.
    Differs: one checkpoint, the warm-up's end; several tasks at once, each in its own subspace;
    float32.
    """

    name: ClassVar[str] = "gradients_subspace"

    rank: int = 9
    validation_rows: int | None = 300

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"influence.rank={self.rank}: give 1 or more singular vectors.")

    def influence(self, wiring: Wiring) -> Step:
        """Cosine with the mean of each task's rows."""
        return MeanInfluence(pool=wiring.pool, rows=self._rows(wiring, "validation_means"))

    def by_validation_row(self, wiring: Wiring) -> Step:
        """Cosine with each row."""
        return self._rows(wiring, "validation_rows")

    def _rows(self, wiring: Wiring, columns: str) -> Step:
        settings = replace(
            wiring.config.gradients, mode="direct", train_direction="sgd", checkpoints="last"
        )
        plain, subtasks = wiring.train_gradients(settings), wiring.config.targets.subtasks
        made = SubspaceGradients(
            base=plain.base,
            warmup=plain.warmup,
            recipe=plain.recipe,
            encoding=plain.encoding,
            trainer=plain.trainer,
            pool=wiring.pool,
            targets=wiring.targets,
            rank=self.rank,
            validation_rows=self.validation_rows,
            subtasks=subtasks,
        )
        return MadeRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=subtasks,
            made=made,
            kind="arrays",
            columns=columns,
        )
