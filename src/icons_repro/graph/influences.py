"""Influence by gradients: a column for each task, or for each validation row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import GradientSettings
from icons_repro.core.step import Step
from icons_repro.graph.gradients import GradientSteps
from icons_repro.graph.inputs import Inputs
from icons_repro.graph.warmups import WarmUps
from icons_repro.influence.stage import (
    DirectInfluence,
    GradientRows,
    Influence,
    InfluenceOverEpochs,
)


class InfluenceSteps:
    """Influence by gradients, as settings ask for it: the run's own, a source's, a method's."""

    def __init__(self, inputs: Inputs, warmups: WarmUps, gradients: GradientSteps) -> None:
        self._inputs, self._warmups, self._gradients = inputs, warmups, gradients

    def by_task(self, settings: GradientSettings) -> Step:
        """Influence at the warm-up's end, or over the checkpoints of its epochs."""
        epochs = self._gradients.epochs(settings)
        matrices = tuple(self._at(settings, epoch) for epoch in epochs)
        if len(matrices) == 1:
            return matrices[0]
        return InfluenceOverEpochs(warmup=self._warmups.of_slice, epoch=matrices)

    def by_row(self, settings: GradientSettings) -> Step:
        """The gradient stores of the settings' checkpoints, by validation row.

        Raises `ConfigError` for direct gradients, of which nothing but each task's mean is kept.
        """
        if settings.mode == "direct":
            raise ConfigError(
                f"gradients.mode=direct has no influence by validation row, which "
                f"{rule_of(self._inputs.config.selector)} needs: set gradients.mode=store."
            )
        epochs = self._gradients.epochs(settings)
        return GradientRows(
            **self._scored(settings),
            train=tuple(self._gradients.of_pool(settings, epoch) for epoch in epochs),
            validation=tuple(self._gradients.of_targets(settings, epoch) for epoch in epochs),
            warmup=self._warmups.of_slice if len(epochs) > 1 else None,
        )

    def _at(self, settings: GradientSettings, epoch: int | None) -> Influence | DirectInfluence:
        if settings.mode == "direct":
            return DirectInfluence(
                **self._gradients.model(settings),
                **self._scored(settings),
                recipe=self._gradients.recipe(settings, settings.train_direction, epoch),
                val_direction=settings.val_direction,
            )
        return Influence(
            **self._scored(settings),
            train=self._gradients.of_pool(settings, epoch),
            validation=self._gradients.of_targets(settings, epoch),
        )

    def _scored(self, settings: GradientSettings) -> dict[str, Any]:
        """What is scored on what."""
        subtasks = self._inputs.config.targets.subtasks
        return {
            "pool": self._inputs.pool,
            "targets": self._inputs.targets,
            "subtasks": subtasks,
            "raw": [] if settings.normalise_subtasks else subtasks,
        }

    @property
    def as_released(self) -> GradientSettings:
        """Settings of ICONS' released influence: part of the full run, MME's gradients unscaled."""
        return replace(
            self._inputs.config.gradients, checkpoints="full_run", normalise_subtasks=False
        )

    @property
    def less(self) -> GradientSettings:
        """Settings of LESS: Adam directions against plain gradients, over the warm-up's epochs."""
        return replace(
            self._inputs.config.gradients,
            mode="store",
            train_direction="adam",
            val_direction="sgd",
            checkpoints="epochs",
        )


def rule_of(selector: Mapping[str, Any]) -> str:
    """Name a selector's rule as the user would set it."""
    rule = selector.get("rule")
    return f"selector.rule={rule}" if rule else f"the selector {selector.get('_target_')}"
