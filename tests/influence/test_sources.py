"""Every source with every rule on a small world, and how sources are wired, shared and refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
from graphs import CONF
from omegaconf import OmegaConf

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import ordered
from icons_repro.core.step_json import from_json, to_json
from icons_repro.core.types import InfluenceMatrix
from icons_repro.data.records import RecordTable
from icons_repro.evaluation.stage import Evaluate
from icons_repro.graph.graph import Graph
from icons_repro.influence.rows.files import open_by_row
from icons_repro.influence.sources.base import SOURCES, build_source
from icons_repro.selection.icons import RULES
from icons_repro.selection.rules.named import NAMED

CONFIGS = sorted(path.stem for path in (CONF / "influence").glob("*.yaml"))
EVERY_RULE = (*RULES, *NAMED)
N = 100
SIZES = (
    f"data.world.pool_size={N}", "data.world.validation_rows=4", "data.world.test_rows=4",
    "warmup.train.epochs=1", "projection.dim=64", "targets.tasks=[tiny_mme,tiny_pope,tiny_vqa]",
)  # fmt: skip

LENGTHS = """
from dataclasses import dataclass

import numpy as np

from icons_repro.influence.sources.base import OwnSource


@dataclass(frozen=True)
class Lengths(OwnSource):
    name = "lengths"

    turns: float = 1.0

    def embed(self, records, images):
        found = []
        for record in records:
            words = sum(len(turn["value"].split()) for turn in record.conversations)
            found.append([1.0, words, self.turns * len(record.conversations)])
        return np.array(found)
"""


@cache
def graph(*overrides: str) -> Graph:
    return graphs.graph(*SIZES, *overrides)


def with_source(name: str, **arguments: Any) -> Graph:
    """The graph of `influence=NAME`, without composing everything again."""
    config = load(CONF / "influence" / f"{name}.yaml")
    return Graph(replace(graph().config, influence={**config, **arguments}))


def load(path: Path) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(found, dict)
    return found  # type: ignore[return-value]


def chosen(g: Graph, store: Cache, **changes: Any) -> np.ndarray:
    """The rows that the graph's selector, changed so, takes."""
    folder = obtain(g.selection({**g.config.selector, **changes}, 0.2, 0), store)
    return np.load(folder / "positions.npy")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def matrix(g: Graph, store: Cache) -> InfluenceMatrix:
    return InfluenceMatrix.load(obtain(g.influence, store) / "influence.parquet")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_source_meets_every_rule(name: str, store: Cache) -> None:
    pytest.importorskip("ot")
    g = with_source(name)
    found = matrix(g, store)
    table = RecordTable(obtain(g.pool, store) / "records.arrow")
    assert np.array_equal(found.keys, table.keys)
    assert np.isfinite(found.values).all(axis=1).sum() > 0.8 * N
    assert (np.nanstd(found.values, axis=0) > 0).all()
    assert len(preset("mixture", store, g)) == N // 5
    assert len(preset("icons_with_floor", store, g, floor=0.1)) == N // 5
    kept = set()
    for rule in EVERY_RULE:
        positions = chosen(g, store, rule=rule)
        assert len(positions) == N // 5, rule
        kept.add(tuple(positions))
    assert len(kept) > 4  # rules differ


@pytest.mark.parametrize("name", sorted({*CONFIGS} - {"cascade", "gradients_subspace"}))
def test_influence_on_a_task_is_the_mean_over_its_validation_rows(name: str, store: Cache) -> None:
    g = with_source(name)
    found = matrix(g, store)
    by_row = open_by_row(obtain(g.feature("influence_rows"), store))
    assert set(by_row.tasks) == set(found.tasks)
    values = by_row.whole().astype(np.float64)
    for j, task in enumerate(found.tasks):
        own = by_row.groups == by_row.tasks.index(task)
        mean, scale = values[:, own].mean(axis=1), np.nanmax(abs(values))
        np.testing.assert_allclose(found.values[:, j] / scale, mean / scale, atol=2e-3)


def test_gists_influence_is_the_cosine_with_the_mean_of_a_tasks_raw_rows(store: Cache) -> None:
    g = with_source("gradients_subspace")
    found = matrix(g, store)
    made = obtain(g.influence.inputs["rows"].inputs["made"], store)
    rows, means = np.load(made / "rows.npy"), np.load(made / "validation_means.npy")
    tasks: dict[str, set[int]] = {}
    for j, (task, mean) in enumerate(zip(found.tasks, means, strict=True)):
        place = np.flatnonzero(mean)
        tasks.setdefault(task.partition("/")[0], set()).update(place.tolist())
        np.testing.assert_allclose(found.values[:, j], rows[:, place] @ mean[place], atol=1e-5)
    assert sum(map(len, tasks.values())) == rows.shape[1]  # a subspace for each task, none shared
    for place in tasks.values():
        np.testing.assert_allclose(np.linalg.norm(rows[:, sorted(place)], axis=1), 1, rtol=1e-4)
    assert (
        with_source("gradients_subspace", rank=2).influence.fingerprint != g.influence.fingerprint
    )


def test_rds_is_the_cosine_of_position_weighted_states(store: Cache) -> None:
    g = with_source("rds")
    found, step = matrix(g, store), g.feature("influence_rows")
    pool = np.load(obtain(step.inputs["rows"], store) / "hidden_weighted.npy").astype(float)
    targets = obtain(step.inputs["validation"], store)
    for j, task in enumerate(found.tasks):
        if "/" in task:
            continue
        val = np.load(targets / task / "hidden_weighted.npy").astype(float)
        cosines = (pool / np.linalg.norm(pool, axis=1, keepdims=True)) @ (
            val / np.linalg.norm(val, axis=1, keepdims=True)
        ).T
        np.testing.assert_allclose(found.values[:, j], cosines.mean(axis=1), atol=1e-5)


@pytest.mark.parametrize("part", ["image", "text", "both"])
def test_clip_is_the_mean_of_the_cosines_and_rows_without_a_picture_lack_one(
    part: str, store: Cache
) -> None:
    g = with_source("clip", part=part)
    found, step = matrix(g, store), g.feature("influence_rows")
    pool, targets = (obtain(step.inputs[name], store) for name in ("rows", "validation"))
    task = found.tasks[-1]
    sides = ("image", "text") if part == "both" else (part,)
    cosines = []
    for side in sides:
        own, val = np.load(pool / f"{side}.npy"), np.load(targets / task / f"{side}.npy")
        own = np.nan_to_num(own) if part == "both" else own
        cosines.append(own @ np.nan_to_num(val).T)
    expected = np.mean(cosines, axis=0).mean(axis=1)
    np.testing.assert_allclose(found.values[:, -1], expected, atol=1e-5)
    text_only = RecordTable(obtain(g.pool, store) / "records.arrow").image_counts == 0
    assert text_only.any()
    assert np.isnan(found.values[text_only]).all() == (part == "image")


def test_sources_share_the_passes_of_selectors_that_exist() -> None:
    g = with_source("rds")
    rows = g.feature("influence_rows").inputs
    assert rows["rows"].fingerprint == g.feature("forward_stats").fingerprint
    clip = with_source("clip")
    assert clip.feature("influence_rows").inputs["rows"].fingerprint == (
        clip.feature("clip").fingerprint
    )
    curved = with_source("preconditioned")
    assert curved.influence.inputs["train"].fingerprint == (
        graph().influence.inputs["train"].fingerprint
    )
    both = with_source("preconditioned", sides="both")
    assert both.influence.inputs["train"].curvature.fingerprint == (
        both.influence.inputs["validation"].curvature.fingerprint
    )


def test_the_released_presets_are_points_of_the_grid(store: Cache) -> None:
    g = graph()
    less = with_source("less")
    assert less.influence.fingerprint == g.feature("influence_less").fingerprint
    released = with_source("gradients", checkpoints="full_run", normalise_subtasks=False)
    assert released.influence.fingerprint == g.feature("influence_as_released").fingerprint
    as_rule = chosen(less, store, rule="max", tie_rule="key")
    np.testing.assert_array_equal(as_rule, preset("less", store))
    np.testing.assert_array_equal(
        chosen(g, store, rule="round_robin"), preset("round_robin", store)
    )


def preset(name: str, store: Cache, g: Graph | None = None, **changes: Any) -> np.ndarray:
    """The rows of a selector that ships."""
    selector = load(CONF / "selector" / f"{name}.yaml") | changes
    folder = obtain((g or graph()).selection(selector, 0.2, 0), store)
    return np.load(folder / "positions.npy")


def test_no_source_reads_a_benchmark() -> None:
    for name in CONFIGS:
        g = with_source(name)
        steps = ordered([g.influence, g.feature("influence_rows")])
        assert not any(isinstance(step, Evaluate) for step in steps)
        for step in steps:
            assert from_json(to_json(step)).fingerprint == step.fingerprint


@pytest.mark.parametrize(
    "selector", ["selector.rule=doubly_greedy", "selector.rule=round_robin_rows"]
)
def test_a_rule_that_needs_rows_and_a_source_without_are_refused_by_name(selector: str) -> None:
    g = graph("gradients.mode=direct", selector)
    rule = selector.partition("=")[2]
    with pytest.raises(
        ConfigError,
        match=rf"influence=gradients has no .* which selector\.rule={rule} needs: .*mode=store",
    ):
        g.selection(g.config.selector, 0.2, 0)
    released = {**g.config.selector, "influence": "influence_as_released"}
    with pytest.raises(ConfigError, match=r"gradients\.mode=direct has no"):
        g.selection(released, 0.2, 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_says_what_it_is_and_each_source_its_formula_source_and_cost(name: str) -> None:
    path = CONF / "influence" / f"{name}.yaml"
    assert path.read_text().startswith("# ")
    source = build_source(load(path))
    assert name.startswith(source.name) or name == "less"
    doc = type(source).__doc__ or ""
    for word in ("Source:", "Cost:"):
        assert word in doc, name


def test_a_source_of_ones_own_is_one_file_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Cache
) -> None:
    (tmp_path / "lengths.py").write_text(LENGTHS)
    (tmp_path / "conf" / "influence").mkdir(parents=True)
    (tmp_path / "conf" / "influence" / "lengths.yaml").write_text(
        "_target_: lengths.Lengths\nturns: 2.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = f"hydra.searchpath=[file://{tmp_path}/conf]"
    g = graph(config, "influence=lengths", "selector.rule=round_robin_rows")
    assert np.isfinite(matrix(g, store).values).all()
    assert len(chosen(g, store)) == N // 5
    again = Graph(replace(g.config, influence={**g.config.influence, "turns": 3.0}))
    assert again.influence.fingerprint != g.influence.fingerprint


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "os.mkdir"}, "influence._target_=os.mkdir: this is no source of influence"),
        ({"_target_": "icons_repro.influence.sources.rsd.Rds"}, r"did you mean .*sources\.rds"),
        ({"_target_": "icons_repro.influence.sources.rds.Rds", "pool": 1}, r"key influence\.pool"),
        (
            {"_target_": "icons_repro.influence.sources.rds.Rds", "pooling": "wieghted_mean"},
            r"influence\.pooling='wieghted_mean'.*weighted_mean",
        ),
        (
            {"_target_": "icons_repro.influence.sources.gradients_subspace.GradientsSubspace",
             "rank": 0},
            r"influence\.rank=0",
        ),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_source_says_what_to_change(config: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SOURCES.build(config)
