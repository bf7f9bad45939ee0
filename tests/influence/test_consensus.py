"""Every aggregation rule against its formula written out row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.influence import consensus

TASKS = ("a", "b", "c")
HAND = np.array([[5.0, 1.0], [4.0, 2.0], [3.0, 3.0], [2.0, 4.0], [1.0, 5.0]])

matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 0.5, 1.0, -2.0, 3.25]),
)


def with_nan(values: np.ndarray, rows: list[int]) -> np.ndarray:
    values = values.copy()
    values[rows] = np.nan
    return values


def test_vote_by_hand():
    # The 80th percentile of 1..5 (linear) is 4.2, the 50th is 3.
    assert consensus.vote(HAND, 80).tolist() == [1, 0, 0, 0, 1]
    assert consensus.vote(HAND, 50, ">").tolist() == [1, 1, 0, 1, 1]
    assert consensus.vote(HAND, 50, ">=").tolist() == [1, 1, 2, 1, 1]


def test_other_rules_by_hand():
    assert consensus.mean(HAND).tolist() == [3] * 5
    assert consensus.maximum(HAND).tolist() == [5, 4, 3, 4, 5]
    assert consensus.rank(HAND).tolist() == [-6] * 5
    assert consensus.norm(HAND, "minmax").tolist() == [1] * 5
    merged = consensus.direct_merge(HAND, ("a", "b"), {"a": 3, "b": 1})
    assert merged.tolist() == [4.0, 3.5, 3.0, 2.5, 2.0]


def test_round_robin_takes_turns_and_skips_what_is_taken():
    orders = [np.array([0, 1, 2, 3]), np.array([0, 2, 1, 3])]
    assert consensus.round_robin(orders, 1).tolist() == [0]
    assert consensus.round_robin(orders, 3).tolist() == [0, 2, 1]
    assert sorted(consensus.round_robin(orders, 4)) == [0, 1, 2, 3]


def test_floor_feeds_the_task_that_votes_starve():
    order = np.array([0, 1, 2, 3, 4, 5])  # consensus prefers what tasks a and b share
    choices = [np.array([0, 1, 2]), np.array([0, 1, 3]), np.array([3, 4, 5])]
    taken = consensus.vote_with_floor(order, choices, 3, 1 / 3)
    assert sorted(taken) == [0, 1, 3]
    assert sorted(consensus.vote_with_floor(order, choices, 3, 0.0)) == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"reserves .* 0.333 always fits"):
        consensus.vote_with_floor(order, choices, 3, 1.0)
    with pytest.raises(ConfigError, match="floor"):
        consensus.vote_with_floor(order, choices, 3, 1.5)


@given(matrices, st.floats(0, 100), st.sampled_from([">", ">="]))
@settings(deadline=None)
def test_vote_is_the_literal_sum_of_indicators(values, percentile, comparison):
    votes = consensus.vote(values, percentile, comparison)
    for i, row in enumerate(values):
        literal = 0
        for j, score in enumerate(row):
            tau = np.percentile(values[:, j], percentile)
            literal += score > tau if comparison == ">" else score >= tau
        assert votes[i] == literal


@given(matrices)
@settings(deadline=None)
def test_rank_is_minus_the_sum_of_average_ranks(values):
    for i, total in enumerate(consensus.rank(values)):
        literal = 0.0
        for j in range(values.shape[1]):
            better = sum(v > values[i, j] for v in values[:, j])
            equal = sum(v == values[i, j] for v in values[:, j])
            literal -= better + (equal + 1) / 2
        assert math.isclose(total, literal, abs_tol=1e-9)


@given(matrices, st.sampled_from(["minmax", "zscore"]))
@settings(deadline=None)
def test_norm_is_the_literal_formula_and_a_constant_task_counts_nothing(values, how):
    for i, total in enumerate(consensus.norm(values, how)):
        literal = 0.0
        for column in values.T:
            low, high = min(column), max(column)
            if low == high:
                continue
            centre = sum(column) / len(column)
            spread = math.sqrt(sum((v - centre) ** 2 for v in column) / len(column))
            shift, scale = (low, high - low) if how == "minmax" else (centre, spread)
            literal += (column[i] - shift) / scale
        assert math.isclose(total, literal, abs_tol=1e-9)


@given(matrices, st.data())
@settings(deadline=None)
def test_excluded_rows_change_nothing_for_the_others(values, data):
    n, t = values.shape
    bad = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1)))
    good = [i for i in range(n) if i not in bad]
    counts = {task: j + 1 for j, task in enumerate("abcd"[:t])}
    rules = [
        lambda v: consensus.vote(v, 60, ">="),
        consensus.mean,
        consensus.maximum,
        consensus.rank,
        lambda v: consensus.norm(v, "minmax"),
        lambda v: consensus.norm(v, "zscore"),
        lambda v: consensus.mean(consensus.calibrate(v, "rank")),
        lambda v: consensus.direct_merge(v, tuple("abcd"[:t]), counts),
    ]
    holed = consensus.usable_values(with_nan(values, bad), "abcd"[:t])
    for rule in rules:
        got = rule(holed)
        assert np.isnan(got[bad]).all()
        np.testing.assert_allclose(got[good], rule(values[good]), rtol=1e-12, atol=1e-12)


@given(matrices, st.sampled_from(["minmax", "zscore", "rank"]))
@settings(deadline=None)
def test_calibration_never_changes_a_vote(values, how):
    plain = consensus.vote(values, 70)
    # Scaling rounds a threshold between two rows; the raw one is compared with a margin.
    tau = consensus.thresholds(values, 70)
    if np.abs(values - tau).min() > 1e-9:
        calibrated = consensus.calibrate(values, how)
        if how != "rank":
            np.testing.assert_array_equal(consensus.vote(calibrated, 70), plain)
        order = np.lexsort((np.arange(len(values)), values[:, 0]))
        assert (np.diff(calibrated[order, 0]) >= 0).all()


@given(st.lists(st.permutations(range(9)), min_size=1, max_size=4), st.integers(1, 9))
def test_round_robin_returns_k_distinct_rows(orders, k):
    taken = consensus.round_robin([np.array(o[:k]) for o in orders], k)
    assert len(set(taken.tolist())) == k
    assert taken[0] == orders[0][0]


@given(
    st.permutations(range(12)),
    st.integers(1, 12),
    st.lists(st.permutations(range(12)), min_size=1, max_size=4),
)
def test_floor_holds_for_every_task_at_one_over_t(order, k, tasks):
    choices = [np.sort(np.array(t[:k])) for t in tasks]
    share = 1 / len(tasks)
    taken = consensus.vote_with_floor(np.array(order), choices, k, share)
    assert len(set(taken.tolist())) == k
    for choice in choices:
        assert len(set(choice) & set(taken)) >= int(share * k)


def test_a_row_with_one_bad_entry_is_excluded_and_a_dead_task_is_an_error():
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert np.isnan(consensus.usable_values(values, ("a", "b"))[0]).all()
    with pytest.raises(DataError, match="influence on b"):
        consensus.usable_values(np.array([[1.0, np.nan], [2.0, np.inf]]), ("a", "b"))


def test_subtasks_merge_by_max_or_mean_or_stay_apart():
    values = np.array([[1.0, 2.0, 4.0], [0.0, 6.0, 2.0]])
    names = ("vqa", "mme/ocr", "mme/count")
    merged, tasks = consensus.merge_subtasks(values, names, "max")
    assert tasks == ("vqa", "mme")
    assert merged.tolist() == [[1, 4], [0, 6]]
    assert consensus.merge_subtasks(values, names, "mean")[0].tolist() == [[1, 3], [0, 4]]
    assert consensus.merge_subtasks(values, names, "separate") == (values, names)


def test_picking_a_task_brings_its_subtasks_and_an_unknown_one_is_named():
    keys = np.array([b"k1", b"k2"], dtype="S32")
    matrix = InfluenceMatrix(np.eye(2, 3, dtype=np.float32), ("vqa", "mme/ocr", "mme/n"), keys)
    assert consensus.pick_tasks(matrix, ["mme"]).tasks == ("mme/ocr", "mme/n")
    assert consensus.pick_tasks(matrix, None) is matrix
    with pytest.raises(ConfigError, match="'vqav2'"):
        consensus.pick_tasks(matrix, ["vqav2"])


def test_bad_settings_are_config_errors():
    with pytest.raises(ConfigError, match="percentile"):
        consensus.vote(HAND, 120)
    with pytest.raises(ConfigError, match="comparison"):
        consensus.vote(HAND, 80, "<")
    with pytest.raises(ConfigError, match="calibration"):
        consensus.calibrate(HAND, "softmax")
    with pytest.raises(DataError, match="validation count for b"):
        consensus.direct_merge(HAND, ("a", "b"), {"a": 3})
    with pytest.raises(DataError, match="positive"):
        consensus.direct_merge(HAND, ("a", "b"), {"a": 3, "b": 0})
