"""The select step's device reaches the selector, where this process has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icons_repro.core.cache import Cache
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Step
from icons_repro.core.types import Pool, Selection
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool as PoolStep
from icons_repro.selection import jobs
from icons_repro.selection.base import BudgetedSelector
from icons_repro.selection.stage import Select

SEEN: list[str] = []


class Notes(BudgetedSelector):
    """Takes the first rows, and notes where it was asked to work."""

    name = "notes"

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        SEEN.append(pool.device)
        return Selection(np.arange(k), np.zeros(len(pool)))


class AtWorld(Work):
    """Finds the small world's pool where the step's would be."""

    def path(self, step: Step) -> Path:
        return self.out.parent / "pool"


def test_the_steps_device_is_the_selectors(small_world: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").symlink_to(small_world / "pool")
    step = Select(
        pool=PoolStep(policy=RecordPolicy()),
        features={},
        selector={"_target_": f"{__name__}.Notes"},
        method="notes",
        budget="0.1",
        seed=0,
    )
    cuda = "cuda" if torch.cuda.is_available() else "cpu"
    for asked, given in (("cpu", "cpu"), ("cpu:0", "cpu:0"), ("cuda", cuda)):
        out = tmp_path / f"out-{asked}"
        out.mkdir()
        jobs.select(replace(step, device=asked), AtWorld(out, Cache(tmp_path)))
        assert SEEN.pop() == given
        assert (out / "subset.json").is_file()
    assert not SEEN


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_where_it_is_made_is_in_no_name(device: str) -> None:
    pool = PoolStep(policy=RecordPolicy())
    made = Select(pool=pool, features={}, selector={}, method="m", budget="0.1", seed=0)
    assert replace(made, device=device).fingerprint == made.fingerprint
