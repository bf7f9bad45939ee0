"""Fixtures shared by all tests: a tiny base on disk and a small pool of real rows."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from longest import LONGEST

from icons_repro.core.imports import uncollected
from icons_repro.core.machine import cores, free_memory

settings.register_profile("fuzz", max_examples=10_000)

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Say how many workers `-n auto` takes: one more than cores, as some tests mostly wait.

    At most eight, and no more than memory has 3 GB for.
    """
    room = free_memory() // (3 << 30)
    return max(2, min(cores() + 1, 8, room))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without the garbage collector, which would then look through them for ever."""
    with uncollected():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; see `make test`, which keeps this order."""
    here = Path(__file__).parent
    place = {name: number for number, name in enumerate(LONGEST)}

    def turn(item: pytest.Item) -> int:
        inside = item.path.is_relative_to(here)
        return place.get(item.path.relative_to(here).as_posix() if inside else "", len(place))

    items.sort(key=turn)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base as a plain Hugging Face folder."""
    from icons_repro.tiny.model import write_tiny_base

    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of 300 rows, with its pool read into records."""
    from icons_repro.core.settings import RecordPolicy
    from icons_repro.data.records import build_records
    from icons_repro.tiny.settings import WorldSettings
    from icons_repro.tiny.world import build_world

    folder = tmp_path_factory.mktemp("world")
    build_world(folder, WorldSettings(seed=7, pool_size=300, validation_rows=8, test_rows=20))
    (folder / "pool").mkdir()
    policy = RecordPolicy(check_images="decode")
    build_records(folder / "pool.json", folder / "images", folder / "pool", policy)
    return folder


@pytest.fixture(autouse=True)
def _not_told_to_stop() -> Iterator[None]:
    """A signal that one test was sent says nothing to the next."""
    yield
    from icons_repro.core.stop import _Asked

    _Asked.signal = None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that sums are added in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)
