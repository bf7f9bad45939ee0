"""Gradients: ICONS' own representation, LESS's, and gradients of the last layers alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from icons_repro.core.settings import GradientSettings
from icons_repro.core.step import Step
from icons_repro.influence.sources.base import Source, Wiring


@dataclass(frozen=True)
class Gradients(Source):
    """cos(gradient of the row, gradient of the validation row) over the adapter's weights.

    The settings are the run's (`gradients`), but for what is given here. Source: ICONS
    (princetonvisualai/icons, icons/influence_matrix.py:13-16); with `train_direction=adam`,
    `checkpoints=epochs` LESS (princeton-nlp/LESS, less/data_selection/matching.py:44-79).
    `last_layers=k` takes the weights of the last k layers of the language model: the backward pass
    ends where the first of them begins. Cost: one forward and backward pass over pool and
    validation rows for each checkpoint.
    """

    name: ClassVar[str] = "gradients"

    mode: Literal["store", "direct"] | None = None
    train_direction: Literal["sgd", "adam", "sign"] | None = None
    val_direction: Literal["sgd", "adam", "sign"] | None = None
    checkpoints: Literal["last", "epochs", "full_run"] | None = None
    normalise_subtasks: bool | None = None
    last_layers: int | None = None
    """How many layers, counted from the last; None is the run's `gradients.last_layers`."""

    def settings(self, wiring: Wiring) -> GradientSettings:
        """The run's settings with this source's own."""
        names = ("mode", "train_direction", "val_direction", "checkpoints", "normalise_subtasks")
        given = {name: getattr(self, name) for name in (*names, "last_layers")}
        own = {name: value for name, value in given.items() if value is not None}
        return replace(wiring.config.gradients, **own)

    def influence(self, wiring: Wiring) -> Step:
        """From the stores, or taken directly."""
        return wiring.gradient_influence(self.settings(wiring))

    def by_validation_row(self, wiring: Wiring) -> Step | None:
        """From the stores; direct gradients keep nothing but each task's mean."""
        settings = self.settings(wiring)
        return None if settings.mode == "direct" else wiring.gradient_rows(settings)

    def remedy(self, wiring: Wiring) -> str:
        """Direct mode is the only one without rows."""
        return "direct gradients keep only the mean of each task: set gradients.mode=store."
