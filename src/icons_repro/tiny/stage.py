"""The tiny world as a step."""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.tiny.settings import WorldSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class World(Step):
    """Pool, images, target tasks and benchmark files of the tiny world."""

    stage = "world"
    group = "prepare"
    light = True
    weight = 15.0

    settings: WorldSettings

    def run(self, work: Work) -> Counts:
        """Write `pool.json`, `truth.parquet`, `images/`, `targets/`, `benchmarks/`."""
        from icons_repro.data.tiny.world import build_world

        return build_world(work.out, self.settings)
