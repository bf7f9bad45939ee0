"""The models of one end table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icons_repro.core.step import Step

if TYPE_CHECKING:
    from icons_repro.evaluation.stage import Evaluate
    from icons_repro.selection.stage import Select
    from icons_repro.training.stage import FineTune

THIS_RUN = "this run"
RANDOM = "random"
FULL = "full"


@dataclass(frozen=True)
class Line:
    """One trained model: its rows, its training, its scores."""

    name: str
    """`THIS_RUN`, `RANDOM` or `FULL`."""
    selection: Select
    adapter: FineTune
    scores: Evaluate | None
    """None where the run does not evaluate."""

    @property
    def steps(self) -> list[Step]:
        """The steps of this model alone, in order of work."""
        return [step for step in (self.selection, self.adapter, self.scores) if step]
