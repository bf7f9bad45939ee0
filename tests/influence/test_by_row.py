"""Influence by validation row: blocks, order, and the rows that are wanted most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.influence.rows.blocks import ByRow, Products
from icons_repro.influence.rows.nearest import best_of_any, most_wanted

TASKS = ("vqa", "mme/ocr", "mme/count")


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).permutation(10 * n)[:n]
    return np.array([f"{i:032x}".encode() for i in drawn], dtype="S32")


def products(n: int = 200, v: int = 9, d: int = 33, seed: int = 0) -> tuple[np.ndarray, ByRow]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)).astype(np.float32)
    vectors = rng.standard_normal((v, d)).astype(np.float32)
    term = Products(lambda at: rows[at], n, vectors)
    by_row = ByRow(TASKS, np.arange(v) % 3, ((1.0, term),), np.arange(n))
    return rows @ vectors.T, by_row


def test_blocks_are_the_whole_product_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icons_repro.influence.rows.blocks.BLOCK_FLOATS", 64 * 33)
    expected, by_row = products()
    starts = [start for start, _ in by_row.blocks()]
    assert starts == [0, 64, 128, 192]
    np.testing.assert_allclose(by_row.whole(), expected, rtol=1e-5, atol=1e-5)


def test_a_row_has_the_same_bits_wherever_it_stands() -> None:
    _, by_row = products()
    order = np.random.default_rng(1).permutation(200)
    term = by_row.terms[0][1]
    moved = Products(lambda at: term.read(order[at]), 200, term.vectors)
    other = ByRow(TASKS, by_row.groups, ((1.0, moved),), np.arange(200)).whole()
    np.testing.assert_array_equal(other, by_row.whole()[order])
    some = ByRow(TASKS, by_row.groups, by_row.terms, np.array([3, 70, 199])).whole()
    np.testing.assert_array_equal(some, by_row.whole()[[3, 70, 199]])


def test_terms_add_by_weight_and_a_row_that_lacks_one_entry_is_excluded() -> None:
    a, b = np.ones((4, 2), dtype=np.float32), np.full((4, 2), 10, dtype=np.float32)
    b[2, 1] = np.nan
    one, two = (ByRow.of(x, ("t",), np.zeros(2, dtype=int)).terms[0][1] for x in (a, b))
    both = ByRow(("t",), np.zeros(2, dtype=int), ((0.25, one), (0.5, two)), np.arange(4)).whole()
    np.testing.assert_array_equal(both[[0, 1, 3]], np.full((3, 2), 5.25))
    assert np.isnan(both[2]).all()


def test_tasks_are_picked_with_their_subtasks_merged() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6)
    by_row = ByRow.of(values, TASKS, np.array([0, 1, 2, 0, 2, 1]))
    assert by_row.of_tasks(None).tasks == ("vqa", "mme")
    assert by_row.of_tasks(None).groups.tolist() == [0, 1, 1, 0, 1, 1]
    mme = by_row.of_tasks(["mme"], leave_out=["mme/ocr"])
    assert (mme.tasks, mme.groups.tolist()) == (("mme",), [0, 0])
    np.testing.assert_array_equal(mme.whole(), values[:, [2, 4]])
    assert by_row.first_rows(1).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"selector\.tasks names 'gqa'"):
        by_row.of_tasks(["gqa"])


def test_terms_of_another_number_of_validation_rows_are_refused() -> None:
    with pytest.raises(DataError, match="3 validation rows"):
        ByRow.of(np.zeros((4, 2)), ("t",), np.zeros(3, dtype=int))


def literal_order(values: np.ndarray, keys: np.ndarray) -> list[list[int]]:
    """Each validation row's usable pool rows: influence, then key, in plain Python."""
    usable = [i for i in range(len(values)) if np.isfinite(values[i]).all()]
    return [
        sorted(usable, key=lambda i: (-float(values[i, j]), keys[i]))
        for j in range(values.shape[1])
    ]


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    count=st.integers(1, 45),
    ties=st.booleans(),
    held=st.sampled_from([1, 20, 2**23]),
)
@settings(max_examples=60, deadline=None)
def test_the_most_wanted_are_the_first_of_a_full_sort(seed, n, count, ties, held) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 5)).astype(np.float32)
    if ties:
        values = np.round(values)  # equal ones, and -0 beside 0
    values[rng.random(n) < 0.2] = np.nan
    keys = keys_of(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icons_repro.influence.rows.nearest.HELD", held)
        patch.setattr("icons_repro.influence.rows.blocks.BLOCK_FLOATS", 1)
        patch.setattr("icons_repro.influence.rows.blocks.ALIGNED", 7)
        found = most_wanted(ByRow.of(values, ("t",), np.zeros(5, dtype=int)), keys, count)
    for j, expected in enumerate(literal_order(values, keys)):
        expected = expected[:count]
        rows = found.rows[j].tolist()
        assert rows[: len(expected)] == expected
        assert set(rows[len(expected) :]) <= {-1}
        np.testing.assert_array_equal(found.values[j, : len(expected)], values[expected, j])
        assert np.isnan(found.values[j, len(expected) :]).all()


def test_the_best_of_any_is_the_maximum_over_each_tasks_rows() -> None:
    values = np.random.default_rng(0).standard_normal((30, 7)).astype(np.float32)
    values[4] = np.nan
    groups = np.array([2, 0, 1, 2, 0, 0, 1])
    found = best_of_any(ByRow.of(values, TASKS, groups))
    for task in range(3):
        expected = values[:, groups == task].max(axis=1)
        np.testing.assert_array_equal(found[:, task].astype(np.float32), expected)
