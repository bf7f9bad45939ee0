"""Budget arithmetic, the top-k rule and its ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import Pool
from icons_repro.selection.base import (
    Ranking,
    RankingSelector,
    Selector,
    budget_to_k,
    canonical_order,
    feature,
    keep_band,
    preference_order,
    top_k,
)


def letter_keys(text: str) -> np.ndarray:
    return np.array([c.encode() * 32 for c in text], dtype="S32")


@pytest.mark.parametrize(
    ("budget", "n", "k"),
    [
        (0.29, 100, 29),
        (0.2, 665_298, 133_059),
        (0.07, 100, 7),
        (1e-05, 665_298, 6),
        (0.001, 10, 1),
        (1, 7, 7),
        (1.0, 7, 7),
        ("1/3", 9, 3),
    ],
)
def test_budget_is_exact_arithmetic_on_what_was_written(budget, n, k):
    assert budget_to_k(budget, n) == k


@pytest.mark.parametrize("budget", [0, 0.0, -0.1, 1.5, "nan", float("inf"), "much", "1/0", None])
def test_budget_outside_zero_one_is_a_config_error(budget):
    with pytest.raises(ConfigError, match="budget"):
        budget_to_k(budget, 10)


def test_empty_pool_is_a_data_error():
    with pytest.raises(DataError, match="no rows"):
        budget_to_k(0.2, 0)


def test_ties_go_to_secondary_then_key_then_position():
    keys = letter_keys("edcba")
    primary = np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    positions, ties = top_k(primary, np.array([0, 5, 7, 5, 9]), keys, 3)
    assert positions.tolist() == [0, 2, 3]
    assert (ties.threshold, ties.above, ties.tied, ties.taken_of_tied) == (1.0, 1, 3, 2)
    assert top_k(primary, None, keys, 2)[0].tolist() == [0, 3]
    assert top_k(np.zeros(4), None, letter_keys("baba"), 1)[0].tolist() == [1]


def test_non_finite_scores_are_taken_only_when_nothing_else_is_left():
    keys = letter_keys("abcd")
    primary = np.array([np.nan, np.inf, -np.inf, -5.0])
    assert top_k(primary, None, keys, 1)[0].tolist() == [3]
    positions, ties = top_k(primary, np.array([0.0, np.nan, 1.0, 0.0]), keys, 3)
    assert positions.tolist() == [0, 2, 3]
    assert math.isnan(ties.threshold)
    assert (ties.above, ties.tied, ties.taken_of_tied) == (1, 3, 2)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_must_fit_the_pool(k):
    with pytest.raises(ConfigError, match="distinct rows"):
        top_k(np.zeros(4), None, letter_keys("abcd"), k)


scores = st.lists(
    st.sampled_from([0.0, 1.0, 2.0, -1.5, math.nan, math.inf]), min_size=1, max_size=12
)


@given(st.data(), scores)
def test_top_k_is_the_head_of_a_literal_sort(data, primary):
    n = len(primary)
    secondary = data.draw(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=n, max_size=n))
    keys = np.array(
        data.draw(st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=n, max_size=n))
    )
    k = data.draw(st.integers(1, n))

    def place(i: int) -> tuple:
        p, s = primary[i], secondary[i]
        return (
            not math.isfinite(p),
            -p if math.isfinite(p) else 0,
            not math.isfinite(s),
            -s if math.isfinite(s) else 0,
            keys[i],
            i,
        )

    literal = sorted(range(n), key=place)[:k]
    assert top_k(np.array(primary), np.array(secondary), keys, k)[0].tolist() == sorted(literal)
    order = preference_order(np.array(primary), np.array(secondary), keys, k)
    assert order.tolist() == literal


def test_middle_band_is_the_central_rows_of_the_distribution():
    values = np.array([10.0, 30.0, 20.0, 50.0, 40.0, np.nan])
    keys = letter_keys("abcdef")
    assert top_k(keep_band(values, "middle"), None, keys, 3)[0].tolist() == [1, 2, 4]
    assert top_k(keep_band(values, "high"), None, keys, 2)[0].tolist() == [3, 4]
    assert top_k(keep_band(values, "low"), None, keys, 2)[0].tolist() == [0, 2]
    assert np.isnan(keep_band(values, "middle")[5])
    assert np.ptp(keep_band(np.ones(4), "middle")) == 0
    with pytest.raises(ConfigError, match="high, low or middle"):
        keep_band(values, "best")


def test_canonical_order_sorts_by_key_then_position():
    assert canonical_order(letter_keys("cab")).tolist() == [1, 2, 0]
    assert canonical_order(letter_keys("aaa")).tolist() == [0, 1, 2]


def test_a_selector_is_one_small_class():
    class Shortest(RankingSelector):
        name = "shortest"

        def scores(self, pool, rng):
            return Ranking(-pool.words.astype(float))

    pool = Pool(
        letter_keys("abc"), np.array(["x"] * 3), np.array([3, 1, 2]), np.zeros(3, dtype=bool)
    )
    assert isinstance(Shortest(), Selector)
    chosen = Shortest().select(pool, 2, np.random.default_rng(0))
    assert chosen.positions.tolist() == [1, 2]
    assert chosen.notes == {}


def test_a_missing_feature_is_named():
    pool = Pool(letter_keys("a"), np.array(["x"]), np.array([1]), np.array([True]), {"clip": {}})
    with pytest.raises(DataError, match=r"'influence'.*clip"):
        feature(pool, "influence")
