"""A feature of one's own is a step, a reader and one entry; the rest of the program follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from graphs import graph

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Counts, Step
from icons_repro.core.types import Pool as SelectorPool
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.features.catalogue import FEATURES, PoolFeature
from icons_repro.graph.graph import Graph
from icons_repro.selection.base import Ranking, RankingSelector, feature


@dataclass(frozen=True, eq=False, kw_only=True)
class Turns(Step):
    """How many turns each row has."""

    stage = "turns"
    group = "features"
    pool: Pool

    def run(self, work: Work) -> Counts:
        from icons_repro.data.records import RecordTable

        table = RecordTable(work.path(self.pool) / "records.arrow")
        np.save(work.out / "turns.npy", [len(table[i].conversations) for i in range(len(table))])
        return {"rows": len(table)}


@dataclass(frozen=True)
class MostTurns(RankingSelector):
    """Take the longest conversations."""

    name: ClassVar[str] = "most_turns"
    requires: ClassVar[frozenset[str]] = frozenset({"turns"})

    def scores(self, pool: SelectorPool, rng: np.random.Generator) -> Ranking:
        return Ranking(feature(pool, "turns").astype(float))


@pytest.fixture
def small(tmp_path: Path) -> Graph:
    world = ("pool_size=200", "test_rows=8", "validation_rows=4")
    return graph(*(f"data.world.{number}" for number in world), output=tmp_path)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: Path, usable: np.ndarray) -> np.ndarray:
        return np.load(folder / "turns.npy")[usable]

    monkeypatch.setitem(FEATURES, "turns", PoolFeature(lambda g: Turns(pool=g.pool), load))


@pytest.mark.usefixtures("registered")
def test_a_selector_gets_a_feature_that_is_one_entry_away(small: Graph, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    selector = {"_target_": f"{__name__}.MostTurns"}
    chosen = small.selection(selector, 0.1, 0)
    rows = np.load(obtain(chosen, cache) / "positions.npy")
    turns = np.load(cache.path(small.feature("turns")) / "turns.npy")
    assert len(rows) == 20
    assert turns[rows].min() >= np.sort(turns)[-20]


def test_a_feature_that_nobody_makes_is_named_with_those_there_are(small: Graph) -> None:
    with pytest.raises(ConfigError, match=r"no stage makes the feature 'turns'; known: \['answer"):
        small.feature("turns")
