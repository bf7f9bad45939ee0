"""What another method chose instead is known, from the same sweep and from runs on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from run_folders import write_run

from icons_repro.core.cache import Cache
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Step
from icons_repro.data.stage import Pool
from icons_repro.report.rivals import rival_selections
from icons_repro.selection.stage import Select
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.stage import World


def pool(seed: int = 0) -> Pool:
    return Pool(world=World(settings=WorldSettings(seed=seed)), policy=RecordPolicy())


def select(method: str, budget: str = "0.2", seed: int = 0, of: Pool | None = None) -> Select:
    return Select(
        pool=of or pool(), features={}, selector={"_target_": method}, method=method,
        budget=budget, seed=seed,
    )  # fmt: skip


def finished(cache: Cache, step: Step) -> Path:
    folder = cache.path(step)
    folder.mkdir(parents=True)
    np.save(folder / "positions.npy", np.arange(3))
    (folder / "manifest.json").write_text(json.dumps({"seconds": 1.0}))
    return folder


def test_rivals_are_finished_choices_from_the_same_pool_nearest_budget_first(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path / "cache")
    own = select("icons")
    goals = [
        select("less", "0.1"), own, select("random"), select("full", "1"), select("less"),
        select("el2n", of=pool(1)),
    ]  # fmt: skip
    unfinished = select("tive")
    for step in goals:
        finished(cache, step)
    found = rival_selections(own, [*goals, unfinished], cache, tmp_path / "runs")
    assert list(found) == ["less 0.2, seed 0", "random 0.2, seed 0", "less 0.1, seed 0"]


def test_runs_on_disk_count_and_what_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    own, runs = select("icons"), tmp_path / "runs"
    finished(cache, own)
    same, other = own.pool.fingerprint, pool(1).fingerprint
    write_run(runs / "a", None, selector="coincide", pool=same)
    write_run(runs / "b", None, selector="tive", pool=other)
    for name, text in (("cut", "{"), ("foreign", '{"answer": 42}')):
        (runs / name).mkdir()
        (runs / name / "results.json").write_text(text)
    found = rival_selections(own, [own], cache, runs)
    assert list(found) == ["coincide 0.2, seed 0"]
    assert (found["coincide 0.2, seed 0"] / "positions.npy").is_file()
