"""Export, as a step."""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.models.stage import Base
from icons_repro.selection.stage import Select
from icons_repro.training.stage import FineTune


@dataclass(frozen=True, eq=False, kw_only=True)
class Export(Step):
    """A merged model in the plain Hugging Face layout, PEFT's adapter, the subset with a card."""

    stage = "export"
    group = "export"

    base: Base
    pool: Pool
    selection: Select
    adapter: FineTune
    dtype: str
    aspect_ratio: str

    @property
    def label(self) -> str:
        """The selection's."""
        return self.selection.label

    def run(self, work: Work) -> Counts:
        """Write `model/`, `adapter/` and `subset/`."""
        from icons_repro.export import jobs

        return jobs.export(self, work)
