"""Every YAML of the selector group makes its selector; so does one from outside the package."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from selector_pools import random_pool

from icons_repro.selection.base import Selector
from icons_repro.selection.resolve import build_selector

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "selector").glob("*.yaml"))
SELECTION = Path(inspect.getfile(Selector)).parent
NOT_METHODS = {
    "__init__",
    "artifact",
    "base",
    "centred",
    "jobs",
    "mmd",
    "resolve",
    "sets",
    "stage",
    "streamed",
    "ward",
}

MAXIMIN = """
import numpy as np

from icons_repro.influence.ranks import percentile_ranks
from icons_repro.selection.base import Ranking, RankingSelector, feature


class Maximin(RankingSelector):
    name = "maximin"
    requires = frozenset({"influence"})

    def __init__(self, quantile: float = 0.0) -> None:
        self.quantile = quantile

    def scores(self, pool, rng):
        values = feature(pool, "influence").values
        ranks = percentile_ranks(values.astype(float))
        return Ranking(np.quantile(ranks, self.quantile, axis=1))
"""


def load(path):
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_each_config_makes_the_selector_of_its_name(path):
    selector = build_selector(load(path))
    assert isinstance(selector, Selector)
    assert path.stem.startswith(selector.name)
    chosen = selector.select(random_pool(0, 30), 6, np.random.default_rng(0))
    assert len(chosen.positions) == 6 or selector.fixed_size


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_each_config_states_its_source_and_only_real_arguments(path):
    text = path.read_text()
    assert text.startswith("# ")
    config = load(path)
    target = config.pop("_target_")
    module, _, cls = target.rpartition(".")
    parameters = inspect.signature(
        getattr(__import__(module, fromlist=[cls]), cls).__init__
    ).parameters
    assert set(config) <= set(parameters)


VARIANTS = {"icons_as_released", "icons_with_floor", "icons_by_row"}
"""Another way to run a method that has a config of its own."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_method_is_the_same_from_python_as_from_its_config(path):
    """A config lists the arguments so that they can be set, not to change them."""
    if path.stem in VARIANTS:
        return
    config = OmegaConf.to_container(OmegaConf.load(path))
    module, _, cls = config.pop("_target_").rpartition(".")
    found = inspect.signature(getattr(__import__(module, fromlist=[cls]), cls)).parameters
    for key, value in config.items():
        if not str(value).startswith("${"):
            assert found[key].default == value, key


def test_every_method_has_a_config_and_says_formula_source_and_complexity():
    methods = {path.stem for path in SELECTION.glob("*.py")} - NOT_METHODS
    assert methods <= {path.stem for path in CONFIGS}
    for path in CONFIGS:
        doc = inspect.getdoc(type(build_selector(load(path))))
        for word in ("Formula", "Source", "Complexity"):
            assert word in doc, (path.stem, word)


def test_lists_from_a_config_are_as_good_as_pythons():
    config = {"_target_": "icons_repro.selection.icons.Icons", "tasks": ["mme"], "subtasks": "mean"}
    chosen = build_selector(config).select(random_pool(0, 30), 6, np.random.default_rng(0))
    assert chosen.notes["tasks"] == ["mme"]
    config = {"_target_": "icons_repro.selection.tive.Tive", "exclude_sources": ["a", "b"]}
    chosen = build_selector(config).select(random_pool(0, 30), 6, np.random.default_rng(0))
    assert list(chosen.notes["quota_by_source"]) == ["c"]


def test_a_selector_from_outside_the_package_needs_one_file_and_one_yaml(tmp_path, monkeypatch):
    (tmp_path / "maximin.py").write_text(MAXIMIN)
    (tmp_path / "maximin.yaml").write_text("_target_: maximin.Maximin\nquantile: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    selector = build_selector(load(tmp_path / "maximin.yaml"))
    assert isinstance(selector, Selector)
    chosen = selector.select(random_pool(0, 30, bad=0.2), 6, np.random.default_rng(0))
    assert len(chosen.positions) == 6
    assert np.isfinite(chosen.scores[chosen.positions]).all()
