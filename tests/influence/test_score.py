"""Influence scores equal the full matrix's means, and stores that do not belong are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import open_writer, seal
from icons_repro.influence.score import reduce_subtasks, score, weighted_sum

DIM = 96
IDENTITIES = {"model": "m", "adapter": "a", "projection": {"kind": "srht", "seed": 0}}


def rows_and_norms(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += 0.5
    norms = rows.norm(dim=1)
    return rows / norms[:, None], norms


def store_of(
    folder: Path,
    rows: torch.Tensor,
    norms: torch.Tensor | None = None,
    bad: dict[int, RowStatus] | None = None,
    **changes: object,
) -> GradientStore:
    status = np.full(len(rows), int(RowStatus.ok))
    rows = rows.clone()
    for row, reason in (bad or {}).items():
        status[row], rows[row] = reason, 0
    options: dict = {"dtype": "float32", "identities": IDENTITIES, **changes}
    lengths = torch.ones(len(rows)) if norms is None else norms
    with open_writer(folder, n_rows=len(rows), dim=rows.shape[1], **options) as writer:
        writer.write(np.arange(len(rows)), rows, lengths, status)
    seal(folder)
    return GradientStore.open(folder)


@pytest.fixture
def world(tmp_path: Path) -> tuple[GradientStore, dict[str, GradientStore]]:
    train = store_of(tmp_path / "train", *rows_and_norms(70, 0))
    tasks = {t: store_of(tmp_path / t, *rows_and_norms(6 + i, i + 1)) for i, t in enumerate("abc")}
    return train, tasks


def full_matrix_means(train: torch.Tensor, tasks: list[torch.Tensor]) -> np.ndarray:
    """The released way: every cosine, then the mean over validation rows."""
    return torch.stack([(train @ rows.T).mean(dim=1) for rows in tasks], dim=1).numpy()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block_rows", [1, 32, 4096])
def test_scores_are_the_means_of_the_full_cosine_matrix(
    world: tuple, threads: int, block_rows: int
) -> None:
    train, tasks = world
    influence = score(train, tasks, threads=threads, block_rows=block_rows)
    expected = full_matrix_means(train.read(), [s.read() for s in tasks.values()])
    np.testing.assert_allclose(influence.values, expected, atol=3e-7)
    assert influence.values.dtype == np.float32
    assert influence.tasks == ("a", "b", "c")
    assert np.array_equal(influence.keys, train.keys)


@pytest.mark.parametrize(
    ("dtype", "error"), [("float16", 2e-4), ("bfloat16", 2e-3), ("int8", 4e-3), ("bit1", 0.3)]
)
def test_rounded_stores_score_nearly_alike(tmp_path: Path, dtype: str, error: float) -> None:
    rows, val = rows_and_norms(50, 0)[0], rows_and_norms(9, 1)[0]
    exact = score(store_of(tmp_path / "t", rows), {"a": store_of(tmp_path / "v", val)})
    train = store_of(tmp_path / "t2", rows, dtype=dtype)
    rounded = score(train, {"a": store_of(tmp_path / "v2", val, dtype=dtype)})
    assert float(np.abs(rounded.values - exact.values).max()) < error


def test_the_scores_outlive_a_save(world: tuple, tmp_path: Path) -> None:
    influence = score(*world)
    influence.save(tmp_path / "influence.parquet")
    back = InfluenceMatrix.load(tmp_path / "influence.parquet")
    assert np.array_equal(back.values, influence.values)
    assert back.tasks == influence.tasks


def test_excluded_rows_are_nan_and_excluded_validation_rows_do_not_count(tmp_path: Path) -> None:
    rows, val = rows_and_norms(30, 0)[0], rows_and_norms(8, 1)[0]
    train = store_of(tmp_path / "t", rows, bad={4: RowStatus.non_finite, 9: RowStatus.zero})
    task = store_of(tmp_path / "v", val, bad={0: RowStatus.no_answer_tokens})
    values = score(train, {"a": task}).values
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [4, 9]
    expected = full_matrix_means(rows, [val[1:]])
    kept = np.isfinite(values[:, 0])
    np.testing.assert_allclose(values[kept], expected[kept], atol=3e-7)


def test_a_task_without_a_usable_row_is_an_error(tmp_path: Path) -> None:
    train = store_of(tmp_path / "t", rows_and_norms(5, 0)[0])
    bad = {0: RowStatus.zero, 1: RowStatus.zero}
    task = store_of(tmp_path / "v", rows_and_norms(2, 1)[0], bad=bad)
    with pytest.raises(DataError, match="a has no usable validation row"):
        score(train, {"a": task})


def test_subtasks_keep_their_vectors_and_reduce_by_choice(world: tuple) -> None:
    train, tasks = world
    labels = {"c": ["ocr", "count"] * 4}
    kept = score(train, tasks, subtasks=labels, reduce=None)
    assert kept.tasks == ("a", "b", "c/ocr", "c/count")
    rows = tasks["c"].read()
    parts = full_matrix_means(train.read(), [rows[0::2], rows[1::2]])
    np.testing.assert_allclose(kept.values[:, 2:], parts, atol=3e-7)
    for how, expected in (("max", parts.max(axis=1)), ("mean", parts.mean(axis=1))):
        reduced = reduce_subtasks(kept, how)  # type: ignore[arg-type]
        assert reduced.tasks == ("a", "b", "c")
        np.testing.assert_allclose(reduced.values[:, 2], expected, atol=3e-7)
        direct = score(train, tasks, subtasks=labels, reduce=how)  # type: ignore[arg-type]
        assert np.array_equal(direct.values, reduced.values)
    with pytest.raises(ConfigError, match="max or mean"):
        reduce_subtasks(kept, "median")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 sub-task labels for 8 rows"):
        score(train, tasks, subtasks={"c": ["x", "y"]})


def test_lengths_come_back_where_asked(tmp_path: Path) -> None:
    (rows, norms), (val, lengths) = rows_and_norms(20, 0), rows_and_norms(5, 1)
    train, task = store_of(tmp_path / "t", rows, norms), store_of(tmp_path / "v", val, lengths)
    plain = score(train, {"a": task}, normalise=False).values
    raw_rows, raw_val = rows * norms[:, None], val * lengths[:, None]
    np.testing.assert_allclose(plain, full_matrix_means(raw_rows, [raw_val]), rtol=1e-4, atol=1e-4)
    released = score(train, {"a": task}, raw_validation={"a"}).values
    np.testing.assert_allclose(released, full_matrix_means(rows, [raw_val]), rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), block_rows=st.integers(1, 40))
def test_scores_follow_any_permutation_of_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, block_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("permuted")
    rows, val = rows_and_norms(33, 0)[0], rows_and_norms(4, 1)[0]
    order = np.random.default_rng(seed).permutation(33)
    tasks = {"a": store_of(folder / "v", val)}
    plain = score(store_of(folder / "t", rows), tasks)
    shuffled = score(store_of(folder / "p", rows[order]), tasks, block_rows=block_rows)
    assert np.array_equal(shuffled.values, plain.values[order]), "the same bits, not nearly"


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "m2"), ("adapter", "b"), ("projection", {"kind": "srht", "seed": 1})],
)
def test_stores_that_do_not_belong_together_are_never_multiplied(
    world: tuple, tmp_path: Path, name: str, value: object
) -> None:
    train, tasks = world
    other = {**IDENTITIES, name: value}
    foreign = store_of(tmp_path / "foreign", rows_and_norms(3, 7)[0], identities=other)
    with pytest.raises(DataError, match=f"train and .*foreign .*different {name}"):
        score(train, {**tasks, "d": foreign})


def test_train_and_validation_features_may_differ_as_in_less(tmp_path: Path) -> None:
    adam, sgd = ({**IDENTITIES, "feature": {"kind": k}} for k in ("adam", "sgd"))
    train = store_of(tmp_path / "t", rows_and_norms(5, 0)[0], identities=adam)
    task = store_of(tmp_path / "v", rows_and_norms(3, 1)[0], identities=sgd)
    assert score(train, {"a": task}).values.shape == (5, 1)


def test_a_store_of_other_records_is_refused_by_position(world: tuple) -> None:
    train, tasks = world
    keys = train.keys.copy()
    score(train, tasks, keys=keys)
    keys[[3, 5]] = keys[[5, 3]]
    with pytest.raises(DataError, match=r"row 3 is record row-3, the pool's is row-5 \(2 rows"):
        score(train, tasks, keys=keys)
    with pytest.raises(DataError, match="70 rows; the pool has 69"):
        score(train, tasks, keys=keys[:-1])


def test_a_store_cut_short_is_an_error_not_a_zero(world: tuple) -> None:
    train, tasks = world
    with open(train.folder / "rows.bin", "r+b") as file:
        file.truncate(10 * DIM * 4)
    with pytest.raises(DataError, match="ends before row"):
        score(train, tasks, block_rows=8)


def test_a_damaged_row_is_an_error_not_a_vote(world: tuple) -> None:
    train, tasks = world
    with open(train.folder / "rows.bin", "r+b") as file:
        file.seek(7 * DIM * 4)
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(DataError, match=r"not finite .* first row 7"):
        score(train, tasks)


def test_no_task_at_all_is_an_error(world: tuple) -> None:
    with pytest.raises(DataError, match="no validation stores"):
        score(world[0], {})


def test_checkpoints_add_up_with_weights_that_sum_to_one() -> None:
    keys = np.array([b"k1", b"k2", b"k3"], dtype="S32")
    one = InfluenceMatrix(np.array([[0.1], [0.2], [np.nan]], np.float32), ("a",), keys)
    two = InfluenceMatrix(np.array([[0.5], [0.0], [0.3]], np.float32), ("a",), keys)
    total = weighted_sum([(3.0, one), (1.0, two)])
    np.testing.assert_allclose(total.values[:2, 0], [0.2, 0.15], rtol=1e-6)
    assert np.isnan(total.values[2, 0])
    other = InfluenceMatrix(two.values, ("b",), keys)
    for bad in ([], [(1.0, one), (0.0, two)], [(1.0, one), (1.0, other)]):
        with pytest.raises(DataError, match="checkpoint"):
            weighted_sum(bad)
