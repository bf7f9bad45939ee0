"""Ranks are counts, exact, and blind to excluded rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from icons_repro.influence import ranks

few = st.sampled_from([0.0, 1.0, 2.0, 7.5, -0.0, 1e-300, 1e300])


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=few))
def test_average_ranks_are_counts_of_smaller_and_equal(values):
    for v, r in zip(values, ranks.average_ranks(values), strict=True):
        assert r == (values < v).sum() + ((values == v).sum() + 1) / 2


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=few),
    st.randoms(use_true_random=False),
)
def test_percentile_ranks_of_a_row_do_not_depend_on_its_place_or_on_excluded_rows(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    holed = np.vstack([np.full(values.shape[1], np.nan), values[order]])
    mean = ranks.mean_percentile_rank(values)
    np.testing.assert_array_equal(ranks.mean_percentile_rank(holed)[1:], mean[order])
    np.testing.assert_allclose(ranks.percentile_ranks(values).mean(axis=1), mean)
    assert np.isnan(ranks.mean_percentile_rank(holed)[0])
    assert ((mean > 0) & (mean < 1)).all()


def test_equal_rank_sums_are_equal_floats():
    values = np.array([[1.0, 3], [4, 4], [5, 5], [2, 1], [2, 1]])
    mean = ranks.mean_percentile_rank(values)
    assert mean[0] == mean[3] == mean[4]
    assert ranks.rank_sums(values).tolist() == [4, 8, 10, 4, 4]


def test_all_rows_excluded_leaves_only_nan():
    holed = np.full((3, 2), np.nan)
    assert np.isnan(ranks.rank_sums(holed)).all()
    assert np.isnan(ranks.percentile_ranks(holed)).all()
    assert np.isnan(ranks.mean_percentile_rank(holed)).all()
