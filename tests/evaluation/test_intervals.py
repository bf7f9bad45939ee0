from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from icons_repro.evaluation.intervals import Estimate, estimate, holm, pools_needed


def measured(
    rng: np.random.Generator, pools: int, pool: float, test: float, own: float, same_test: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Values of some pools around zero, and their bootstrap replicates.

    `pool`, `test` and `own` are standard deviations: of the pool's effect, of the test questions'
    (one draw for all pools with `same_test`), of what the questions do to one run alone.
    """
    sets = 1 if same_test else pools
    values = pool * rng.normal(size=pools) + own * rng.normal(size=pools)
    values = values + test * rng.normal(size=sets)
    draws = (
        values[:, None] + test * rng.normal(size=(sets, 300)) + own * rng.normal(size=(pools, 300))
    )
    return values, draws


@pytest.mark.parametrize("same_test", [True, False])
@pytest.mark.parametrize(
    ("pools", "sizes"),
    [(2, (1, 0.3, 0.5)), (3, (1, 0.05, 0.05)), (3, (0.3, 1, 0.3)), (3, (1, 1, 1)), (6, (1, 1, 0))],
)
def test_intervals_cover_and_false_positives_stay_at_their_rate(
    pools: int, sizes: tuple[float, float, float], same_test: bool
) -> None:
    rng = np.random.default_rng(0)
    trials = 500
    p_values = np.array(
        [
            estimate(*measured(rng, pools, *sizes, same_test=same_test)).p_value
            for _ in range(trials)
        ]
    )
    found = np.mean(p_values < 0.05)
    assert found < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials), "more false positives than stated"
    assert found > 0.004 if pools > 2 else True, "not so wide that nothing could ever be found"
    assert np.mean(p_values < 0.5) == pytest.approx(0.5, abs=0.13)


def test_drawing_three_pools_and_taking_percentiles_does_not_cover() -> None:
    rng = np.random.default_rng(0)
    covered, ours = [], []
    for _ in range(400):
        values, draws = measured(rng, 3, 1, 0.05, 0.05, same_test=True)
        picked = rng.integers(0, 3, (draws.shape[1], 3))
        means = draws[picked, np.arange(draws.shape[1])[:, None]].mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        covered.append(low < 0 < high)
        low, high = estimate(values, draws).interval()
        ours.append(low < 0 < high)
    assert np.mean(covered) < 0.8
    assert np.mean(ours) > 0.92


def test_the_interval_is_where_the_p_value_says() -> None:
    found = Estimate(value=4.0, pools=4, between=1.3, shared=0.9)
    low, high = found.interval()
    assert (low + high) / 2 == pytest.approx(4.0)
    assert found.below(low) == pytest.approx(0.025, abs=1e-6)
    assert found.below(high) == pytest.approx(0.975, abs=1e-6)
    draws = 1.3 * stats.t.rvs(3, size=200_000, random_state=0)
    draws = 4.0 + draws + 0.9 * np.random.default_rng(0).normal(size=200_000)
    assert found.chance_above_zero == pytest.approx(np.mean(draws > 0), abs=0.003)


@pytest.mark.parametrize(("between", "shared"), [(1.0, 0.0101), (0.0101, 1.0), (1.0, 0.5)])
def test_small_parts_of_the_error_may_be_left_out(between: float, shared: float) -> None:
    found = Estimate(1.0, 3, between, shared)
    near = Estimate(1.0, 3, between * (1 - 2e-2), shared * (1 - 2e-2))
    assert found.below(0.0) == pytest.approx(near.below(0.0), abs=0.01)


def test_without_answers_it_is_students_t_over_pools() -> None:
    found = estimate([1.0, 2.0, 3.0])
    low, high = found.interval()
    assert (found.value, found.covers) == (2.0, "pools")
    assert high - 2.0 == pytest.approx(4.3026527 / np.sqrt(3), rel=1e-5)
    assert 2.0 - low == pytest.approx(high - 2.0)
    assert found.p_value == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue, rel=1e-6)


def test_one_pool_knows_its_test_questions_alone() -> None:
    draws = np.random.default_rng(0).normal(5.0, 2.0, (1, 4000))
    found = estimate([5.0], draws)
    assert found.covers == "test questions"
    assert found.interval()[1] - 5.0 == pytest.approx(1.96 * 2.0, rel=0.05)
    alone = estimate([5.0])
    assert math.isnan(alone.p_value)
    assert np.isnan(alone.interval()).all()
    assert alone.to_json()["low"] is None


def test_two_equal_runs_differ_by_nothing() -> None:
    found = estimate([0.0, 0.0], np.zeros((2, 10)))
    assert (found.p_value, found.chance_above_zero) == (1.0, 0.5)
    assert found.interval() == (0.0, 0.0)


def test_seeds_that_agree_by_luck_make_nothing_certain() -> None:
    own = np.random.default_rng(0).normal(size=(2, 4000))
    found = estimate([4.0, 4.0], 4.0 + 6.0 * own)
    assert found.between == 0.0
    assert found.interval()[1] - 4.0 == pytest.approx(1.96 * 6.0 / math.sqrt(2), rel=0.05)
    assert found.p_value > 0.2


def test_seeds_on_one_pool_count_as_one_where_there_are_several_pools() -> None:
    values, pools = [1.0, 1.2, 3.0, 3.2], ["a", "a", "b", "b"]
    found = estimate(values, pools=pools)
    assert (found.pools, found.value) == (2, pytest.approx(2.1))
    assert found.between == pytest.approx(estimate([1.1, 3.1]).between)
    assert estimate(values, pools=["a"] * 4).pools == 4, "seeds of one pool are what there is"


def test_questions_that_pools_share_are_counted_once() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=4000)
    values = [0.0, 0.1, -0.1]
    same = estimate(values, [v + shared for v in values])
    own = estimate(values, [v + rng.normal(size=4000) for v in values])
    assert same.shared == pytest.approx(1.0, rel=0.05)
    assert own.shared == pytest.approx(0.0, abs=0.15)


def test_holm_corrects_in_steps() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "none": math.nan})
    assert [found[k] for k in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(found["none"])
    assert holm({}) == {}


def test_holm_keeps_the_chance_of_any_false_positive() -> None:
    rng = np.random.default_rng(0)
    tests = [dict(enumerate(rng.random(17))) for _ in range(800)]
    assert np.mean([min(holm(t).values()) < 0.05 for t in tests]) < 0.075
    assert np.mean([min(t.values()) < 0.05 for t in tests]) > 0.5, "without it, one in two sweeps"


def test_so_many_pools_find_the_difference_in_four_of_five_trials() -> None:
    found = estimate([1.0, 3.0, 5.0, 3.0])
    pools = pools_needed(found)
    assert pools is not None
    deviation = np.std([1.0, 3.0, 5.0, 3.0], ddof=1)
    trials = np.random.default_rng(0).normal(3.0, deviation, (2000, pools))
    power = np.mean(stats.ttest_1samp(trials, 0, axis=1).pvalue < 0.05)
    assert 0.78 < power < 0.93
    fewer = trials[:, : pools - 1]
    assert np.mean(stats.ttest_1samp(fewer, 0, axis=1).pvalue < 0.05) < 0.81


def test_no_number_of_pools_helps_where_the_test_questions_are_too_few() -> None:
    assert pools_needed(Estimate(value=1.0, pools=3, between=0.5, shared=2.0)) is None
    assert pools_needed(Estimate(value=1.0, pools=1, between=None, shared=0.1)) is None
