"""Gradients of the pool and the target tasks, at a warm-up's end or after its epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from icons_repro.core.settings import GradientSettings
from icons_repro.gradients.stage import (
    GradientRecipe,
    InstanceGradients,
    PoolGradients,
    TargetGradients,
)
from icons_repro.graph.inputs import Inputs
from icons_repro.graph.warmups import WarmUps


class GradientSteps:
    """Gradient stores, as settings ask for them: the run's own, a source's, a method's."""

    def __init__(self, inputs: Inputs, warmups: WarmUps) -> None:
        self._inputs, self._warmups = inputs, warmups

    def of_pool(self, settings: GradientSettings, epoch: int | None = None) -> PoolGradients:
        """The pool's gradients, after an epoch of the warm-up or at its end."""
        recipe = self.recipe(settings, settings.train_direction, epoch)
        return PoolGradients(**self.model(settings), recipe=recipe, pool=self._inputs.pool)

    def of_targets(self, settings: GradientSettings, epoch: int | None = None) -> TargetGradients:
        """The target tasks' gradients."""
        recipe = self.recipe(settings, settings.val_direction, epoch)
        return TargetGradients(**self.model(settings), recipe=recipe, targets=self._inputs.targets)

    def model(self, settings: GradientSettings) -> dict[str, Any]:
        """The model that gradients are of."""
        full = settings.checkpoints == "full_run"
        return {
            "base": self._inputs.selection_base,
            "warmup": self._warmups.of_full_run if full else self._warmups.of_slice,
            "encoding": self._inputs.encoding,
            "trainer": self._inputs.trainer,
        }

    def recipe(
        self, settings: GradientSettings, direction: str, epoch: int | None
    ) -> GradientRecipe:
        """What decides a row. Gradients that are not stored are neither projected nor rounded."""
        stored = settings.mode == "store"
        last = settings.last_layers
        return GradientRecipe(
            parameters=settings.parameters if last is None else f"{settings.parameters}:last{last}",
            per_sample=settings.per_sample,
            direction=direction,
            projection=self._inputs.config.projection if stored else {},
            dtype=settings.dtype if stored else "float32",
            epoch=epoch,
            token_budget=settings.token_budget,
            gradient_checkpointing=settings.gradient_checkpointing,
        )

    def epochs(self, settings: GradientSettings) -> list[int | None]:
        """Return the checkpoints of the warm-up that `settings` ask for; None is its end."""
        if settings.checkpoints != "epochs":
            return [None]
        return [*range(1, self._inputs.config.warmup.train.epochs), None]

    @property
    def stores(self) -> list[PoolGradients | TargetGradients]:
        """What `stages=[extract]` makes: the run's stores of every checkpoint."""
        settings = self._inputs.config.gradients
        if settings.mode != "store":
            return []
        made = (self.of_pool, self.of_targets)
        return [make(settings, epoch) for make in made for epoch in self.epochs(settings)]

    @property
    def of_instances(self) -> InstanceGradients:
        """TIVE's gradients: plain ones of the attention's LoRA, at the warm-up model."""
        settings = replace(
            self._inputs.config.gradients,
            mode="store",
            parameters=self._inputs.config.features.instance_parameters,
            last_layers=None,
            train_direction="sgd",
            checkpoints="last",
        )
        return InstanceGradients(store=self.of_pool(settings))
