"""Leakage, as steps: fingerprints of the pool's pictures, and what validation and tests share.

No selection reads them: they look at the test pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icons_repro.core.refs import Ref
from icons_repro.core.step import Counts, Step, placement
from icons_repro.core.work import Work
from icons_repro.data.stage import MadeData, Pool, Targets


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolPrints(Step):
    """Fingerprints of the pool's pictures; a step of its own since the pool is what takes long."""

    stage = "pool_prints"
    group = "prepare"
    light = True

    pool: Pool
    threads: int = placement(0)
    """Open pictures; 0: the process itself does."""

    def run(self, work: Work) -> Counts:
        """Write `names.json` and arrays, see `prints.Prints`."""
        from icons_repro.leakage import jobs

        return jobs.print_pool(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class Leakage(Step):
    """Pictures that validation, pool and tests share: every target, and the pool, by every test."""

    stage = "leakage"
    group = "prepare"
    weight = 2.0

    pool: PoolPrints
    targets: Targets | None
    """None where the run's selection reads none."""
    tasks: Mapping[str, Any]
    """As `Evaluate`'s, with the next three."""
    only: list[str] | None = None
    world: MadeData | None = None
    folder: Ref | None = None
    threads: int = placement(0)

    def run(self, work: Work) -> Counts:
        """Write `leakage.json`, and `pairs/NN.webp`, pictures that are alike side by side."""
        from icons_repro.leakage import jobs

        return jobs.compare(self, work)
