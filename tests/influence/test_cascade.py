"""A cascade takes gradients of the rows that come through, and puts every other row below them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pyarrow as pa
import pytest
from graphs import CONF
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.step import ordered
from icons_repro.core.types import InfluenceMatrix
from icons_repro.data.records import BATCH_ROWS, SCHEMA, RecordTable
from icons_repro.data.row_copies import copy_rows
from icons_repro.explain.neighbours import nearest, stores_of
from icons_repro.gradients.store import GradientStore
from icons_repro.graph.graph import Graph
from icons_repro.influence.cascade.screen import below, by_whole_task, came_through
from icons_repro.influence.cascade.stage import Candidates
from icons_repro.influence.rows.files import open_by_row, open_by_task
from icons_repro.influence.sources.base import SOURCES, build_source
from icons_repro.influence.sources.named import NAMED, named_source
from icons_repro.selection.icons import RULES
from icons_repro.selection.rules.named import NAMED as NAMED_RULES

TASKS = ("vqa", "mme/ocr", "mme/count")
N = 100
SIZES = (
    f"data.world.pool_size={N}", "data.world.validation_rows=4", "data.world.test_rows=4",
    "warmup.train.epochs=1", "projection.dim=64", "targets.tasks=[tiny_mme,tiny_pope,tiny_vqa]",
)  # fmt: skip
"""Those of the other sources' tests, whose warm-up and gradients these share."""


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).permutation(10 * n)[:n]
    return np.array([f"{i:032x}".encode() for i in drawn], dtype="S32")


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    share=st.sampled_from([0.01, 0.1, 0.29, 0.5, 1.0]),
    ties=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_comes_through_is_the_union_of_each_tasks_best(
    seed: int, n: int, share: float, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    values, keys = rng.standard_normal((n, 3)).astype(np.float32), keys_of(n, seed)
    values = np.round(values) if ties else values
    values[1:][rng.random(n - 1) < 0.2] = np.nan
    scored = [i for i in range(n) if np.isfinite(values[i]).all()]
    count = math.ceil(Fraction(str(share)) * len(scored))
    expected = {i for i in range(n) if i not in scored}
    for columns in ([0], [1, 2]):  # a task's sub-tasks by their maximum
        order = sorted(scored, key=lambda i: (-float(max(values[i, columns])), keys[i]))
        expected |= set(order[:count])
    assert set(np.flatnonzero(came_through(values, TASKS, keys, share))) == expected


@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    shift=st.sampled_from([0.0, 1.0, -1e4]),
    rows=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_rest_is_finite_below_all_that_came_through_and_in_the_cheap_order(
    seed: int, scale: float, shift: float, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    measured = (shift + scale * rng.standard_normal((rows, 3))).astype(np.float32)
    measured[1:2] = np.nan  # its gradient could not be taken
    cheap = rng.standard_normal((30, 3)).astype(np.float32)
    found = below(measured, TASKS, cheap, TASKS)
    assert np.isfinite(found).all()
    assert (found.max(axis=0) < np.nanmin(measured, axis=0)).all()
    merged, _ = by_whole_task(cheap, TASKS)
    for column, task in zip(found.T, (0, 1, 1), strict=True):
        assert (np.diff(column[np.argsort(merged[:, task])]) >= 0).all()


def test_rows_are_copied_across_batches(tmp_path: Path) -> None:
    n = 2 * BATCH_ROWS + 100
    columns: dict[str, Any] = {
        "key": [f"{i:032x}" for i in range(n)],
        "json": [f'{{"row": {i}, "conversations": []}}' for i in range(n)],
        "source": ["s"] * n,
        "words": list(range(n)),
        "images": [[f"{i}.png"] if i % 3 else [] for i in range(n)],
        "problem": [None if i % 7 else "broken" for i in range(n)],
    }
    table = pa.table(columns, schema=SCHEMA.with_metadata({b"policy": b'{"on_bad_row": "skip"}'}))
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        for start in range(0, n, BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS).combine_chunks()
            writer.write_batch(part.to_batches()[0])
    positions = np.flatnonzero(np.random.default_rng(0).random(n) < 0.7)
    assert len(positions) > BATCH_ROWS
    copy_rows(tmp_path / "a.arrow", positions, tmp_path / "b.arrow")
    whole, some = RecordTable(tmp_path / "a.arrow"), RecordTable(tmp_path / "b.arrow")
    assert len(some) == len(positions)
    assert some.policy == whole.policy
    for name in ("keys", "words", "image_counts", "usable"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[positions])
    for place in (0, BATCH_ROWS - 1, BATCH_ROWS, len(positions) - 1):
        assert some[place] == replace(whole[int(positions[place])], position=place)


def test_shipped_names_are_the_choices_of_the_config_group() -> None:
    for path in (CONF / "influence").glob("*.yaml"):
        config = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(config, dict)
        if path.stem != "cascade":
            named = named_source(path.stem, {}, "first")
            assert named == build_source({str(k): v for k, v in config.items()})
    assert {path.stem for path in (CONF / "influence").glob("*.yaml")} == {*NAMED, "cascade"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": "rsd"}, r"influence\.first='rsd': choose one of .*did you mean.*rds"),
        ({"first": "cascade"}, r"influence\.first='cascade': choose one of gradients"),
        ({"first": "os.mkdir"}, r"influence\.first=os\.mkdir: this is no source"),
        (
            {"first": "rds", "options": {"poolnig": "mean"}},
            r"influence\.poolnig.*did you mean.*pooling",
        ),
        ({"share": 0.0}, r"influence\.share=0\.0: is outside \(0, 1\]"),
        ({"share": 1.5}, r"influence\.share=1\.5"),
    ],
)
def test_a_cascade_of_nothing_is_refused_before_anything_runs(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SOURCES.build({"_target_": "icons_repro.influence.sources.cascade.Cascade", **arguments})


# On a small world


@cache
def whole(mode: str = "store") -> Graph:
    return graphs.graph(*SIZES, f"gradients.mode={mode}")


def cascade(mode: str = "store", **arguments: Any) -> Graph:
    target = "icons_repro.influence.sources.cascade.Cascade"
    own = {"_target_": target, "first": "bm25", "share": 0.3, **arguments}
    return Graph(replace(whole(mode).config, influence=own))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def matrix(g: Graph, store: Cache) -> InfluenceMatrix:
    return InfluenceMatrix.load(obtain(g.influence, store) / "influence.parquet")


def select(g: Graph, store: Cache, budget: float, **changes: Any) -> Path:
    return obtain(g.selection({**g.config.selector, **changes}, budget, 0), store)


def test_gradients_are_taken_of_the_rows_that_came_through_and_no_others(store: Cache) -> None:
    g = cascade()
    found, full = matrix(g, store), matrix(whole(), store)
    positions = np.load(obtain(g.influence.inputs["candidates"], store) / "positions.npy")
    gradients = GradientStore.open(store.path(g.influence.inputs["influence"].inputs["train"]))
    assert 0.3 * N <= len(positions) < 0.9 * N
    np.testing.assert_array_equal(gradients.keys, full.keys[positions])  # nothing else is stored
    assert found.measured is not None
    np.testing.assert_array_equal(np.flatnonzero(found.measured), positions)
    assert found.tasks == full.tasks
    np.testing.assert_array_equal(found.keys, full.keys)
    np.testing.assert_allclose(found.values[positions], full.values[positions], atol=1e-5)
    rest = found.values[~found.measured]
    assert np.isfinite(rest).all()
    assert (rest.max(axis=0) < found.values[positions].min(axis=0)).all()
    assert g.warmup.fingerprint == whole().warmup.fingerprint
    pools = {s.fingerprint for s in ordered([g.influence]) if isinstance(s, Candidates)}
    assert len(pools) == 1


def test_a_cascade_that_lets_all_through_is_the_full_computation(store: Cache) -> None:
    found, full = matrix(cascade(share=1.0), store), matrix(whole(), store)
    np.testing.assert_array_equal(found.values, full.values)


def test_direct_gradients_cascade_too_and_have_no_rows(store: Cache) -> None:
    found, full = matrix(cascade("direct"), store), matrix(whole("direct"), store)
    there = found.measured
    assert there is not None
    np.testing.assert_allclose(found.values[there], full.values[there], atol=1e-5)
    g = cascade("direct")
    with pytest.raises(ConfigError, match=r"influence=cascade has no .*gradients\.mode=store"):
        g.selection({**g.config.selector, "rule": "knn"}, 0.2, 0)


def test_no_rule_takes_a_row_that_was_left_out_before_one_that_came_through(store: Cache) -> None:
    pytest.importorskip("ot")
    g = cascade()
    there = matrix(g, store).measured
    assert there is not None
    for rule in (*RULES, *NAMED_RULES):
        few = np.load(select(g, store, 0.1, rule=rule) / "positions.npy")
        assert there[few].all(), rule
        many = np.load(select(g, store, 0.9, rule=rule) / "positions.npy")
        assert np.isin(np.flatnonzero(there), many).all(), rule


@pytest.mark.parametrize("comparison", [">", ">="])
def test_a_row_that_was_left_out_has_no_vote_however_low_the_percentile(
    comparison: str, store: Cache
) -> None:
    g = cascade(share=0.05)
    there = matrix(g, store).measured
    assert there is not None
    folder = select(g, store, 0.2, percentile=10.0, comparison=comparison)
    votes = scores(folder)["votes"].to_numpy()
    assert (votes[~there] == 0).all()
    assert votes[there].min() > 0


def scores(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(folder / "scores.parquet")


def test_by_validation_row_the_rest_has_none(store: Cache) -> None:
    g = cascade()
    folder = obtain(g.feature("influence_rows"), store)
    full = open_by_row(obtain(whole().feature("influence_rows"), store)).whole()
    there, rows = matrix(g, store).measured, open_by_row(folder).whole()
    assert there is not None
    np.testing.assert_allclose(rows[there], full[there], atol=1e-5)
    assert np.isnan(rows[~there]).all()
    means = open_by_task(folder).whole()
    np.testing.assert_allclose(means[there], matrix(g, store).values[there], atol=2e-3)


def test_neighbours_of_a_row_are_its_own_and_a_row_without_a_gradient_says_so(
    store: Cache,
) -> None:
    g = cascade()
    found = matrix(g, store)
    assert found.measured is not None
    stores = stores_of(store.path(g.influence) / "influence.parquet")
    last = int(np.flatnonzero(found.measured)[-1])
    plain = stores_of(store.path(whole().influence) / "influence.parquet")
    own, expected = nearest(stores, last), nearest(plain, last)
    for task, near in expected.items():
        assert [n.cosine for n in own[task]] == pytest.approx([n.cosine for n in near], abs=1e-3)
    with pytest.raises(DataError, match="did not come through the cascade"):
        nearest(stores, int(np.flatnonzero(~found.measured)[0]))
