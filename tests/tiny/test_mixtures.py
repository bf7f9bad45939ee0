"""Worlds whose target tasks are given by number and overlap."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from icons_repro.core.errors import ConfigError
from icons_repro.tiny.benchmarks import TASKS
from icons_repro.tiny.mixtures import SKILLS, rows_of, tasks_of
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.sources import SOURCES
from icons_repro.tiny.stage import World
from icons_repro.tiny.world import build_world

SMALL = WorldSettings(seed=3, pool_size=200, validation_rows=8, test_rows=16)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
def test_without_overlap_the_tasks_part_the_skills_among_them(count: int) -> None:
    tasks = tasks_of(replace(SMALL, tasks=count, overlap=0.0))
    own = [skill for task in tasks for skill in task.mixture]
    assert len(tasks) == count
    assert sorted(own) == sorted(SKILLS)


@pytest.mark.parametrize("overlap", [0.25, 0.5, 1.0])
def test_two_tasks_share_at_least_the_overlap_and_exactly_that_without_common_skills(
    overlap: float,
) -> None:
    first, second = tasks_of(replace(SMALL, tasks=2, overlap=overlap))
    shared = sum(min(share, second.mixture[skill]) for skill, share in first.mixture.items())
    assert sum(first.mixture.values()) == pytest.approx(1)
    assert shared == pytest.approx(overlap)


def test_each_skill_is_what_one_source_of_the_pool_practises() -> None:
    assert len(SKILLS) == sum(source.on_target for source in SOURCES)


def test_a_mixture_has_the_rows_that_it_says_and_asks_nothing_twice() -> None:
    settings = replace(SMALL, tasks=2, overlap=0.5)
    task = tasks_of(settings)[0]
    drafts = rows_of(task, "test", 64, settings)
    assert len(drafts) == 64
    assert (
        len({(d.pixels.tobytes(), d.turns[0].text) for d in drafts if d.pixels is not None}) == 64
    )
    asked = Counter(d.turns[0].answer in ("yes", "no") for d in drafts)
    assert asked[True] >= 64 * task.mixture["presence"] * 0.9


@pytest.mark.parametrize("rows", [12, 23, 24, 60, 75])
def test_a_task_has_as_many_rows_as_asked_for_at_every_number_and_overlap(rows: int) -> None:
    for count, overlap in ((2, 0.25), (3, 1.0), (6, 0.5)):
        settings = replace(SMALL, tasks=count, overlap=overlap)
        for task in tasks_of(settings):
            assert len(rows_of(task, "validation", rows, settings)) == rows


def test_the_pool_is_the_same_for_every_number_and_overlap(tmp_path: Path) -> None:
    made = {}
    for name, changes in {
        "seven": {}, "apart": {"tasks": 3, "overlap": 0.0}, "alike": {"tasks": 3, "overlap": 1.0},
    }.items():  # fmt: skip
        build_world(tmp_path / name, replace(SMALL, **changes))  # type: ignore[arg-type]
        made[name] = (tmp_path / name / "pool.json").read_bytes()
    assert made["seven"] == made["apart"] == made["alike"]
    names = sorted(path.stem for path in (tmp_path / "apart" / "benchmarks").glob("*.parquet"))
    assert names == ["tiny_task1", "tiny_task2", "tiny_task3"]
    rows = pq.read_table(tmp_path / "apart" / "benchmarks" / "tiny_task1.parquet").num_rows
    assert rows == SMALL.test_rows


def test_a_world_of_the_seven_tasks_has_the_name_and_statement_it_had_before(
    tmp_path: Path,
) -> None:
    named = set(World(settings=WorldSettings()).identity["config"]["settings"])
    assert named == set(asdict(WorldSettings())) - {"tasks", "overlap"}
    assert tasks_of(SMALL) == TASKS
    statement = build_world(tmp_path, SMALL)
    assert set(statement["settings"]) == named


def test_another_number_or_overlap_is_another_world() -> None:
    worlds = [replace(SMALL, tasks=n, overlap=o) for n in (2, 3) for o in (0.0, 0.5)]
    assert len({World(settings=settings).fingerprint for settings in worlds}) == 4


def test_overlap_without_a_number_of_tasks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.world\.overlap is that of data\.world\.tasks"):
        WorldSettings(overlap=0.5)
