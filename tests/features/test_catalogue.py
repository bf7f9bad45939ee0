"""A feature of one's own is a step, a reader and one entry; the rest of the program follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from icons_repro.config import register, typed
from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Counts, Step
from icons_repro.core.types import Pool as SelectorPool
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.features.catalogue import FEATURES, PoolFeature
from icons_repro.graph import Graph
from icons_repro.selection.base import Ranking, RankingSelector, feature

CONF = Path(__file__).parents[2] / "conf"


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
def graph(tmp_path: Path) -> Graph:
    register()
    small = ["data.world.pool_size=200", "data.world.test_rows=8", "data.world.validation_rows=4"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=small)
    with open_dict(config):
        config.names = {"setup": "tiny", "experiment": "test", "selector": "test"}
        config.paths = {"output": str(tmp_path), "cache": str(tmp_path / "c"), "run": str(tmp_path)}
    return Graph(typed(config))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: Path, usable: np.ndarray) -> np.ndarray:
        return np.load(folder / "turns.npy")[usable]

    monkeypatch.setitem(FEATURES, "turns", PoolFeature(lambda g: Turns(pool=g.pool), load))


@pytest.mark.usefixtures("registered")
def test_a_selector_gets_a_feature_that_is_one_entry_away(graph: Graph, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    selector = {"_target_": f"{__name__}.MostTurns"}
    chosen = graph.selection(selector, 0.1, 0)
    rows = np.load(obtain(chosen, cache) / "positions.npy")
    turns = np.load(cache.path(graph.feature("turns")) / "turns.npy")
    assert len(rows) == 20
    assert turns[rows].min() >= np.sort(turns)[-20]


def test_a_feature_that_nobody_makes_is_named_with_those_there_are(graph: Graph) -> None:
    with pytest.raises(ConfigError, match=r"no stage makes the feature 'turns'; known: \['answer"):
        graph.feature("turns")
