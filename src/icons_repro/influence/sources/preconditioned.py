"""Influence functions: gradients against the inverse curvature times gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step
from icons_repro.gradients.stage import (
    Curvature,
    CurvedPoolGradients,
    CurvedTargetGradients,
    PoolGradients,
    TargetGradients,
)
from icons_repro.influence.sources.base import Source, Wiring
from icons_repro.influence.stage import GradientRows, Influence


@dataclass(frozen=True)
class Preconditioned(Source):
    """cos(g, H^-1 g') with K-FAC's or EK-FAC's curvature H of the adapter's weights.

    Formula: gradients/curvature/factors.py; damping is this share of a weight's mean eigenvalue.
    Source: Grosse et al. 2023, arXiv:2308.03296; pomonam/kronfluence, kronfluence/factor/config.py;
    EleutherAI/bergson, bergson/hessians. sides=validation puts all of H^-1 on the validation rows:
    the pool's rows are those of influence=gradients, and shared with it. sides=both puts H^-1/2 on
    each side, so that both lengths are measured in one space. Cost: forward and backward over
    `samples` rows, twice for EK-FAC, and over pool and validation rows; with sides=both one small
    product more a weight and row. Differs: lengths are divided out (kronfluence keeps inner
    products), the curvature is the empirical Fisher's of a sample, products are projected.
    """

    name: ClassVar[str] = "preconditioned"

    kind: Literal["kfac", "ekfac"] = "ekfac"
    damping: float = 0.1
    samples: int = 1024
    """Rows of the pool that the curvature is fitted on, drawn at random."""
    seed: int = 0
    sides: Literal["validation", "both"] = "validation"

    def __post_init__(self) -> None:
        if self.damping < 0 or self.samples < 1:
            raise ConfigError(
                f"influence.damping={self.damping}, influence.samples={self.samples}: the damping "
                "is a share, 0.1 for instance, and at least one row is needed."
            )

    def influence(self, wiring: Wiring) -> Step:
        """The mean cosine with each task's preconditioned gradients."""
        train, validation = self._gradients(wiring)
        return Influence(
            pool=wiring.pool,
            targets=wiring.targets,
            train=train,
            validation=validation,
            subtasks=wiring.config.targets.subtasks,
            raw=[],
        )

    def by_validation_row(self, wiring: Wiring) -> Step:
        """The same stores."""
        train, validation = self._gradients(wiring)
        return GradientRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            train=(train,),
            validation=(validation,),
            raw=[],
        )

    def _gradients(self, wiring: Wiring) -> tuple[PoolGradients, TargetGradients]:
        settings = replace(
            wiring.config.gradients,
            mode="store",
            train_direction="sgd",
            val_direction="sgd",
            checkpoints="last",
        )
        plain, targets = wiring.train_gradients(settings), wiring.target_gradients(settings)
        at: dict[str, Any] = {
            "base": plain.base,
            "warmup": plain.warmup,
            "recipe": plain.recipe,
            "encoding": plain.encoding,
            "trainer": plain.trainer,
        }
        curvature = Curvature(
            **at, pool=wiring.pool, kind=self.kind, samples=self.samples, seed=self.seed
        )
        power = -1.0 if self.sides == "validation" else -0.5
        curved = {**at, "curvature": curvature, "damping": self.damping, "power": power}
        validation = CurvedTargetGradients(**curved, targets=targets.targets)
        if self.sides == "validation":
            return plain, validation
        return CurvedPoolGradients(**curved, pool=wiring.pool), validation
