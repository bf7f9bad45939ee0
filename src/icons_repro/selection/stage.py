"""Select, as a step: the rows that a method keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icons_repro.core.step import Counts, Step, placement
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Step):
    """The rows that a selector keeps."""

    stage = "select"
    group = "select"

    pool: Pool
    features: Mapping[str, Step]
    """What the selector requires, by the name that it knows it by."""
    selector: Mapping[str, Any]
    """Its config: `_target_` and arguments."""
    method: str
    """Its name, for people."""
    budget: str
    """The share that is kept; as text, so that 0.1 is one number."""
    seed: int
    device: str = placement("cpu")
    """Where it clusters and searches neighbours, if it does and there is one: "cpu" or "cuda"."""

    @property
    def on_device(self) -> bool:  # type: ignore[override]  # a constant of other kinds of work
        """Whether it has use for a GPU."""
        return self.device != "cpu"

    @property
    def label(self) -> str:
        """Method, budget and seed."""
        return f"{self.method} {float(self.budget):g}, seed {self.seed}"

    def run(self, work: Work) -> Counts:
        """Write the selection directory (`artifact.py`), `subset.json` and `sources.json`."""
        from icons_repro.selection import jobs

        return jobs.select(self, work)
