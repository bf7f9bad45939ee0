"""Every selector's features have a producer and a reader, and each is made once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import CONF, composed, graph
from omegaconf import OmegaConf

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.data.records import RecordTable
from icons_repro.data.stage import text_key
from icons_repro.features.catalogue import FEATURES
from icons_repro.graph.graph import Graph
from icons_repro.selection.resolve import build_selector
from icons_repro.tiny.weights import TINY_CLIP

SELECTORS = sorted(path.stem for path in (CONF / "selector").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the paths below are relative


@pytest.mark.parametrize("name", SELECTORS)
def test_each_selector_can_be_made_and_what_it_requires_has_a_maker_and_a_reader(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "subset.json").write_text("[]")
    g = graph(f"selector={name}", f"features.released={tmp_path}/subset.json")
    for needed in build_selector(g.config.selector).requires:
        assert g.feature(needed).stage
        assert needed in FEATURES


def test_statistics_and_hidden_states_come_from_one_pass() -> None:
    g = graph()
    names = ("forward_stats", "hidden_last", "hidden_mean", "hidden_weighted")
    assert len({g.feature(name).fingerprint for name in names}) == 1


def test_random_needs_no_model() -> None:
    g = graph("selector=random")
    assert set(g.selection(g.config.selector, 0.2, 0).inputs) == {"pool"}


def test_the_base_model_as_reference_leaves_the_warm_up_out() -> None:
    assert "warmup" in graph().feature("forward_stats").inputs
    assert "warmup" not in graph("features.model=base").feature("forward_stats").inputs


def test_what_changes_no_number_changes_no_name() -> None:
    a, b = graph(), graph("features.token_budget=512", "budget=0.4", "seed=3")
    for name in ("forward_stats", "coincide", "clip", "self_filter", "instance_gradients"):
        assert a.feature(name).fingerprint == b.feature(name).fingerprint, name


def test_less_reads_adam_directions_and_icons_plain_gradients() -> None:
    g = graph()
    less, icons = g.feature("influence_less"), g.feature("influence")
    epochs = [less.inputs[f"epoch_{n}"] for n in range(1, g.config.warmup.train.epochs + 1)]
    assert [e.inputs["train"].recipe.direction for e in epochs] == ["adam"] * len(epochs)
    assert icons.inputs["train"].recipe.direction == "sgd"
    last = epochs[-1].inputs["validation"].fingerprint
    assert last == icons.inputs["validation"].fingerprint
    assert len({e.inputs["validation"].fingerprint for e in epochs}) == len(epochs)


def test_the_released_influence_is_of_a_step_of_the_full_run_with_raw_subtasks() -> None:
    g = graph("selector=icons_as_released", "gradients.mode=store")
    assert build_selector(g.config.selector).requires == {"influence_as_released"}
    released, ours = g.feature("influence_as_released"), g.feature("influence")
    assert released.raw == ours.subtasks
    assert ours.raw == []
    warmup = released.inputs["train"].inputs["warmup"]
    assert warmup.stop_after == g.config.warmup.full_run_steps
    assert warmup.train.epochs == g.config.finetune.epochs
    assert set(warmup.inputs) == {"base", "pool"}
    assert warmup.fingerprint == released.inputs["validation"].inputs["warmup"].fingerprint
    direct = graph("gradients.mode=direct").feature("influence_as_released")
    assert direct.raw
    assert direct.inputs["warmup"].fingerprint == warmup.fingerprint


def test_the_released_preset_leaves_out_the_subtasks_that_the_setup_names() -> None:
    assert build_selector(graph("selector=icons_as_released").config.selector).leave_out == []
    paper = graph("selector=icons_as_released", "targets=paper").config.selector
    assert build_selector(paper).leave_out == ["mme/artwork"]


def test_validation_rows_are_counted_by_subtask(small) -> None:
    g, cache = small
    counts = FEATURES["validation_counts"].load(obtain(g.targets, cache), np.ones(160, dtype=bool))
    assert counts["tiny_mme"] == 4
    parts = {name: n for name, n in counts.items() if name.startswith("tiny_mme/")}
    assert sum(parts.values()) == 4
    obtain(g.influence, cache)
    assert set(parts) <= set(cache.manifest(g.influence)["counts"]["columns"])


def test_a_released_subset_without_a_path_says_which_key_to_set() -> None:
    with pytest.raises(ConfigError, match=r"features\.released=FILE"):
        graph().feature("released_keys")


def test_another_world_is_not_embedded_by_the_tiny_clip(tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text("[]")
    own = ["data.world=null", f"data.json={tmp_path}/pool.json", f"data.images={tmp_path}"]
    with pytest.raises(ConfigError, match=r"features\.clip is not set"):
        graph(*own).feature("clip")


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(ConfigError, match="no stage makes the feature 'colour'"):
        graph().feature("colour")


def test_a_text_key_ignores_ids_and_keeps_the_image() -> None:
    row = {"id": "a", "image": "x.png", "conversations": [{"from": "human", "value": "hi"}]}
    assert text_key(row) == text_key({**row, "id": "b", "model": ""})
    assert text_key(row) != text_key({**row, "image": "y.png"})
    assert text_key({"conversations": []}) != text_key({"conversations": [], "image": "x.png"})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Cache]:
    """A world of 160 rows, four of them unusable, and a cache to make its features in."""
    root = tmp_path_factory.mktemp("features")
    cache = Cache(root / "cache")
    sizes = [f"data.world.{k}" for k in ("pool_size=160", "validation_rows=4", "test_rows=4")]
    world = obtain(graph(*sizes).feature("truth"), cache)
    lines = (world / "pool.json").read_text().splitlines()
    for i in (3, 7, 100, 159):
        row = lines[i]
        lines[i] = '{"id": "bad", "conversations": []}' + ("," if row.endswith(",") else "")
    pool = root / "pool.json"
    pool.write_text("\n".join(lines))
    g = graph(
        "data.world=null",
        f"data.json={pool}",
        f"data.images={world}/images",
        "data.on_bad_row=skip",
        f"targets.folder={world}/targets",
        f"targets.images={world}/images",
        f"features.released={world}/pool.json",
        f"features.clip={TINY_CLIP}",
        f"features.image_encoder={TINY_CLIP}",
        "warmup.train.epochs=1",
        "warmup.full_run_steps=3",
        "features.trajectory_points=2",
        "finetune.epochs=1",
        "projection.dim=64",
        output=root / "output",
    )
    return g, cache


def test_unusable_rows_have_no_feature_and_usable_ones_have(small) -> None:
    g, cache = small
    table = obtain(g.pool, cache) / "records.arrow"
    usable, images = RecordTable(table).usable, RecordTable(table).image_counts
    assert np.flatnonzero(~usable)[:4].tolist() == [2, 6, 99, 158]
    everything = np.ones(len(usable), dtype=bool)
    whole = ("forward_stats", "coincide", "instance_gradients", "self_filter", "hidden_mean")
    for name in (*whole, "spectrum", "rounds"):
        found = FEATURES[name].load(obtain(g.feature(name), cache), everything)
        for array in found.values() if isinstance(found, dict) else [found]:
            if isinstance(array, np.ndarray):
                rows = np.isfinite(array.reshape(len(usable), -1)).all(axis=1)
                np.testing.assert_array_equal(rows, usable, err_msg=name)
    tokens = FEATURES["vision_tokens"].load(obtain(g.feature("vision_tokens"), cache), everything)
    for rows in tokens.values():
        shown = np.isfinite(rows[:]).all(axis=1)
        np.testing.assert_array_equal(shown, usable & (images > 0))
    pictures = FEATURES["image_cls"].load(obtain(g.feature("image_cls"), cache), everything)
    shown = np.isfinite(pictures[:]).all(axis=1)
    np.testing.assert_array_equal(shown, usable & (images > 0))
    losses = FEATURES["question_losses"].load(
        obtain(g.feature("question_losses"), cache), everything
    )
    reference = np.load(obtain(g.warmup, cache) / "positions.npy")
    for own in losses.values():
        expected = reference[images[reference] > 0]
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(own)), expected)
    clip = FEATURES["clip"].load(obtain(g.feature("clip"), cache), everything)
    np.testing.assert_array_equal(np.isfinite(clip["text"]).all(axis=1), usable)
    np.testing.assert_array_equal(np.isfinite(clip["image"]).all(axis=1), usable & (images > 0))


def test_a_trajectory_is_of_usable_rows_with_an_image_and_moves_as_the_proxy_trains(small) -> None:
    g, cache = small
    table = RecordTable(obtain(g.pool, cache) / "records.arrow")
    step = g.feature("attention_trajectory")
    found = FEATURES["attention_trajectory"].load(obtain(step, cache), np.ones(160, dtype=bool))
    assert found.shape == (160, 2, 5)
    shown = table.usable & (table.image_counts > 0)
    np.testing.assert_array_equal(np.isfinite(found).all(axis=(1, 2)), shown)
    assert (np.diff(found[shown], axis=2) <= 0).all()  # the largest first
    assert (found[shown][:, 0, 0] != found[shown][:, 1, 0]).any()
    points = [cache.path(read) for read in step.inputs.values()]
    for place, folder in enumerate(points):
        np.testing.assert_array_equal(np.load(folder / "values.npy"), found[:, place])


@pytest.mark.parametrize(("source", "rule"), [("bm25", "round_robin_rows"), ("random", "knn")])
def test_a_rule_by_validation_row_takes_no_unusable_row(small, source: str, rule: str) -> None:
    g, cache = small
    influence = OmegaConf.to_container(OmegaConf.load(CONF / "influence" / f"{source}.yaml"))
    own = Graph(replace(g.config, influence=influence))
    step = own.selection({**g.config.selector, "rule": rule}, 0.9, 0)
    positions = np.load(obtain(step, cache) / "positions.npy")
    usable = RecordTable(obtain(own.pool, cache) / "records.arrow").usable
    assert len(positions) == int(0.9 * usable.sum())
    assert usable[positions].all()
    matrix = InfluenceMatrix.load(obtain(own.influence, cache) / "influence.parquet")
    np.testing.assert_array_equal(np.isfinite(matrix.values).all(axis=1), usable)


def test_blocks_name_the_sources_of_a_file_of_their_size(small) -> None:
    g, cache = small
    plain = g.config.data
    named = replace(plain, blocks={"first": 100, "second": 60})
    pool = Graph(replace(g.config, data=named)).pool
    assert pool.fingerprint != g.pool.fingerprint
    sources = RecordTable(obtain(pool, cache) / "records.arrow").sources
    assert sources[[0, 98, 101, 157]].tolist() == ["first", "first", "second", "second"]
    swapped = Graph(replace(g.config, data=replace(plain, blocks={"second": 60, "first": 100})))
    assert swapped.pool.fingerprint != pool.fingerprint
    other = Graph(replace(g.config, data=replace(plain, blocks={"first": 665298}))).pool
    with pytest.raises(DataError, match=r"160 rows, and data\.blocks are 665,298"):
        obtain(other, cache)


def test_the_mixs_twelve_blocks_have_its_rows_and_tive_leaves_textcaps_out() -> None:
    data = composed("data=llava_665k", "selector=tive")
    assert sum(data.data.blocks.values()) == data.data.rows == 665298
    assert len(data.data.blocks) == 12
    assert data.selector.exclude_sources == ["textcaps"]
    assert composed("selector=tive").selector.exclude_sources == []


def test_batches_of_other_sizes_give_the_same_rows(small) -> None:
    g, cache = small
    settings = replace(g.config.features, token_budget=200)
    other = Graph(replace(g.config, features=settings))
    for name in ("forward_stats", "coincide"):
        step = other.feature(name)
        other_cache = Cache(cache.root.parent / "other")
        for read in step.inputs.values():
            shown = other_cache.path(read)
            shown.parent.mkdir(parents=True, exist_ok=True)
            if not shown.exists():
                shown.symlink_to(obtain(read, cache))
        a = FEATURES[name].load(obtain(step, cache), np.ones(160, dtype=bool))
        b = FEATURES[name].load(obtain(step, other_cache), np.ones(160, dtype=bool))
        for key, array in a.items():
            if isinstance(array, np.ndarray):
                np.testing.assert_allclose(array, b[key], rtol=2e-3, atol=2e-4)


def test_selection_runs_on_every_made_feature(small) -> None:
    g, cache = small
    arguments = {"longest": {"of": "answers"}, "icons": {"rule": "direct_merge"}}
    for name in (
        *("self_filter", "tive", "less", "coincide", "released", "clip_score", "longest"),
        *("icons", "icons_as_released", "scalselect", "datatailor", "presel"),
    ):
        config = graph(f"selector={name}").config.selector
        extra = arguments.get(name, {})
        chosen = obtain(g.selection({**config, **extra}, 0.2, 0), cache)
        positions = np.load(chosen / "positions.npy")
        assert len(positions) == (156 if name == "released" else 31), name
