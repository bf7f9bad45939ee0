"""Properties that every selector has, over random pools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selector_pools import FIXED_SIZE, SELECTORS, random_pool, shuffled

from icons_repro.core.errors import ConfigError
from icons_repro.core.types import Pool
from icons_repro.selection.base import Selector, budget_to_k

ALL = SELECTORS | FIXED_SIZE
pools = st.builds(
    random_pool,
    st.integers(0, 10**6),
    st.integers(1, 24),
    st.sampled_from(["normal", "ties", "huge", "same"]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.4, 1.0]),
)


def pick(name: str, pool: Pool, k: int, seed: int = 0):
    return ALL[name]().select(pool, k, np.random.default_rng(seed))


@pytest.mark.parametrize("name", sorted(SELECTORS))
@given(pool=pools, budget=st.sampled_from([0.001, 0.2, 0.29, 0.5, 0.99, 1.0]))
@settings(max_examples=20, deadline=None)
def test_exactly_k_distinct_ascending_positions(name, pool, budget):
    k = budget_to_k(budget, len(pool))
    chosen = pick(name, pool, k)
    assert chosen.positions.dtype == np.int64
    assert len(chosen.positions) == k
    assert (np.diff(chosen.positions) > 0).all()
    assert chosen.positions[0] >= 0
    assert chosen.positions[-1] < len(pool)


@pytest.mark.parametrize("name", sorted(ALL))
@given(pool=pools, share=st.floats(0.01, 1), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_same_rows_whatever_their_order_in_the_file(name, pool, share, seed):
    k = max(1, int(share * len(pool)))
    mixed = shuffled(pool, seed)
    first, again, other = (pick(name, p, k, seed) for p in (pool, pool, mixed))
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert set(pool.keys[first.positions]) == set(mixed.keys[other.positions])


@pytest.mark.parametrize("name", sorted(ALL))
@given(pool=pools, share=st.floats(0.01, 1))
@settings(max_examples=6, deadline=None)
def test_scores_and_columns_have_a_value_for_every_row_and_notes_are_json(name, pool, share):
    chosen = pick(name, pool, max(1, int(share * len(pool))))
    assert chosen.scores.shape == (len(pool),)
    assert chosen.scores.dtype == np.float64
    assert all(np.shape(column) == (len(pool),) for column in chosen.columns.values())
    json.dumps(dict(chosen.notes))


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_selector_declares_what_it_reads(name):
    selector = ALL[name]()
    assert isinstance(selector, Selector)
    pool = random_pool(1, 12)
    needed = {f: pool.features[f] for f in selector.requires}
    bare = Pool(pool.keys, pool.sources, pool.words, pool.has_image, needed)
    assert len(selector.select(bare, 3, np.random.default_rng(0)).positions) > 0


@pytest.mark.parametrize("name", sorted(SELECTORS))
@pytest.mark.parametrize("k", [0, 13])
def test_a_k_that_does_not_fit_is_refused(name, k):
    with pytest.raises(ConfigError, match="distinct rows"):
        pick(name, random_pool(1, 12), k)


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"oracle", "random", "longest"}))
def test_rows_that_cannot_be_judged_are_taken_last(name):
    pool = random_pool(3, 40, bad=0.25)
    chosen = pick(name, pool, 5)
    judged = np.isfinite(chosen.scores)
    # text-only rows at random, without a score
    if not name.startswith(("clip_score_prop", "presel", "xmas")):
        assert judged[chosen.positions].all()


@pytest.mark.parametrize("name", ["icons_norm_zscore", "tive", "self_sup", "coincide", "semdedup"])
def test_not_even_the_rounding_depends_on_the_order_of_the_rows(name):
    pool = random_pool(7, 300)
    mixed = shuffled(pool, 1)
    ours, other = pick(name, pool, 60), pick(name, mixed, 60)
    by_key = dict(zip(mixed.keys.tolist(), other.scores.tolist(), strict=True))
    np.testing.assert_array_equal(ours.scores, [by_key[key] for key in pool.keys.tolist()])


@pytest.mark.parametrize("name", ["random", "random_per_source", "oracle", "tive"])
def test_another_seed_gives_another_draw(name):
    pool = random_pool(5, 200, text=0.0)
    assert set(pick(name, pool, 40, 0).positions) != set(pick(name, pool, 40, 1).positions)


def test_full_takes_everything_and_records_the_budget():
    chosen = pick("full", random_pool(1, 12), 3)
    assert chosen.positions.tolist() == list(range(12))
    assert chosen.notes == {"rows_asked_for": 3}
