"""Evaluate, as a step: an adapter's score on every benchmark, by lmms-eval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from icons_repro.core.refs import Ref
from icons_repro.core.settings import TrainerSettings
from icons_repro.core.step import Counts, SharedStep, placement
from icons_repro.core.work import Work
from icons_repro.data.stage import MadeData
from icons_repro.models.stage import Base
from icons_repro.training.stage import FineTune


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluate(SharedStep):
    """One score for each benchmark, and the answers behind it.

    A part is a benchmark, or with `chunks` a slice of its questions.
    """

    stage = "evaluate"
    group = "evaluate"
    natural_parts = 8
    weight = 10.0

    base: Base
    adapter: FineTune
    tasks: Mapping[str, Any]
    """lmms-eval's benchmarks by name; empty where they are local files."""
    aspect_ratio: str
    """What training does to an image before the processor."""
    trainer: TrainerSettings
    only: list[str] | None = None
    """Of local files: those to take."""
    world: MadeData | None = None
    """Where a step makes the files."""
    folder: Ref | None = None
    """Where they are the user's."""
    batch_size: int = placement(64)

    @property
    def label(self) -> str:
        """The selection's."""
        return self.adapter.label

    def parts(self, work: Work) -> list[str]:
        """Name the benchmarks and slices; local ones become lmms-eval tasks."""
        from icons_repro.evaluation import jobs

        return jobs.part_names(self, work)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Answer, and where a benchmark is one part score, what comes."""
        from icons_repro.evaluation import jobs

        jobs.fill(self, work, parts)

    def finish(self, work: Work) -> Counts:
        """Score what was answered in slices."""
        from icons_repro.evaluation import jobs

        return jobs.finish(self, work)
