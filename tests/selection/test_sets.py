"""Quotas, completion and the selectors that only count or look up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selector_pools import random_pool

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.selection.coincide import Coincide
from icons_repro.selection.mixture import Mixture
from icons_repro.selection.oracle import Oracle
from icons_repro.selection.random_per_source import RandomPerSource, highest_per_group
from icons_repro.selection.released import Released, match_rows
from icons_repro.selection.self_sup import SelfSup
from icons_repro.selection.semdedup import SemDeDup
from icons_repro.selection.sets import cluster_count, quotas


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("weights", "sizes", "k", "expected"),
    [
        ([1, 1, 1], [10, 10, 10], 6, [2, 2, 2]),
        ([1, 1, 1], [1, 10, 10], 7, [1, 3, 3]),
        ([1, 1, 1], [10, 10, 10], 7, [3, 2, 2]),
        ([3, 2, 1], [10, 10, 10], 6, [3, 2, 1]),
        ([0, 1], [5, 2], 4, [2, 2]),
        ([8, 1, 1], [2, 2, 9], 9, [2, 2, 5]),
        ([1, 1], [0, 3], 5, [0, 3]),
        ([0.5], [7], 3, [3]),
    ],
)
def test_quotas_by_hand(weights, sizes, k, expected):
    assert quotas(np.array(weights), np.array(sizes), k).tolist() == expected


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), min_size=1, max_size=8),
    st.integers(0, 50),
)
def test_quotas_fill_the_budget_within_the_sizes_and_in_proportion(groups, k):
    weights, sizes = np.array([g[0] for g in groups]), np.array([g[1] for g in groups])
    take = quotas(weights, sizes, k)
    assert take.sum() == min(k, sizes.sum())
    assert (take <= sizes).all()
    assert (take >= 0).all()
    open_ = [(w, t) for w, s, t in zip(weights, sizes, take, strict=True) if t < s]
    for w1, t1 in open_:
        for w2, t2 in open_:
            assert w1 > w2 or t1 <= t2 + 1  # who weighs no more gets no more, but for rounding


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=20, unique=True)
)
def test_highest_per_group_is_a_literal_sort_inside_each_group(rows):
    group = np.array([g for g, _ in rows])
    scores = np.arange(len(rows)) + np.array([s for _, s in rows]) / 2
    sizes = np.bincount(group, minlength=4)
    take = sizes // 2
    literal = []
    for g in range(4):
        own = sorted((i for i in range(len(rows)) if group[i] == g), key=lambda i: -scores[i])
        literal += own[: take[g]]
    assert sorted(highest_per_group(scores, group, take).tolist()) == sorted(literal)


def test_stratified_draw_keeps_the_mixture_or_evens_it_out():
    pool = random_pool(0, 100)
    pool = replace(pool, sources=np.array(["a"] * 70 + ["b"] * 25 + ["c"] * 5))
    kept = RandomPerSource().select(pool, 20, rng())
    assert kept.notes["quota_by_source"] == {"a": 14, "b": 5, "c": 1}
    even = RandomPerSource(allocation="equal").select(pool, 21, rng())
    assert even.notes["quota_by_source"] == {"a": 8, "b": 8, "c": 5}
    assert np.unique(pool.sources[even.positions], return_counts=True)[1].tolist() == [8, 8, 5]


def test_a_temperature_goes_from_the_pools_shares_to_even_ones():
    pool = replace(random_pool(0, 100), sources=np.array(["a"] * 64 + ["b"] * 36))

    def quota(temperature: float) -> dict[str, int]:
        mixture = Mixture(weights="temperature", temperature=temperature)
        return mixture.select(pool, 28, rng()).notes["quota_by_source"]

    assert quota(1) == {"a": 18, "b": 10}
    assert quota(2) == {"a": 16, "b": 12}  # 8 to 6
    assert quota(1e9) == {"a": 14, "b": 14}


def test_targets_mix_sources_as_their_most_influential_rows_are():
    pool = replace(random_pool(0, 40), sources=np.array(["a"] * 30 + ["b"] * 10))
    values = np.zeros((40, 2), dtype=np.float32)
    values[30:38, 0] = 1  # the first task wants eight rows of b ...
    values[:8, 1] = 1  # ... the second eight of a
    matrix = InfluenceMatrix(values, ("x", "y"), pool.keys)
    chosen = Mixture().select(replace(pool, features={"influence": matrix}), 8, rng())
    assert chosen.notes["quota_by_source"] == {"a": 4, "b": 4}
    values[3] = np.nan  # an excluded row votes for no source
    chosen = Mixture().select(replace(pool, features={"influence": matrix}), 8, rng())
    assert chosen.notes["weight_by_source"]["b"] == 4.0


def test_the_oracle_takes_clean_rows_that_serve_and_wrong_labels_on_them_last():
    truth = {
        "on_target": np.array([1, 1, 0, 0, 1], dtype=bool),
        "mislabelled": np.array([0, 1, 0, 1, 0], dtype=bool),
    }
    pool = replace(random_pool(0, 5), features={"truth": truth})
    sets = [set(Oracle().select(pool, k, rng()).positions.tolist()) for k in range(1, 6)]
    assert sets[0] < {0, 4}
    assert sets[1:] == [{0, 4}, {0, 2, 4}, {0, 2, 3, 4}, {0, 1, 2, 3, 4}]


def keys(*names: str) -> np.ndarray:
    return np.array([n.encode() for n in names], dtype="S32")


def test_released_rows_are_found_by_content_and_every_other_case_is_counted():
    # Pool: A twice (same everything), B and B' (same text, other id), C.
    pool_keys, pool_text = keys("A", "B1", "A", "C", "B2"), keys("a", "b", "a", "c", "b")
    found, counts = match_rows(
        pool_keys,
        pool_text,
        keys("C", "A", "B9", "Z", "C"),
        keys("c", "a", "b", "z", "c"),
    )
    assert found.tolist() == [3, 0, 1]
    assert counts == {
        "rows": 5,
        "matched_by_key": 2,
        "matched_by_text": 1,
        "duplicate": 1,
        "unmatched": 1,
        "ambiguous": 2,
    }


def test_a_released_row_that_repeats_as_often_as_in_the_pool_is_neither_duplicate_nor_ambiguous():
    found, counts = match_rows(keys("A", "A"), keys("a", "a"), keys("A", "A"), keys("a", "a"))
    assert sorted(found.tolist()) == [0, 1]
    assert counts["duplicate"] == counts["ambiguous"] == counts["unmatched"] == 0


def test_a_whole_match_goes_before_a_match_by_text():
    found, counts = match_rows(keys("B1", "B2"), keys("b", "b"), keys("B9", "B1"), keys("b", "b"))
    assert found.tolist() == [0, 1]
    assert (counts["matched_by_key"], counts["matched_by_text"]) == (1, 1)


def released_pool(n: int, subset: list[int]) -> Pool:
    pool = random_pool(1, n)
    part = pool.keys[subset]
    features = {"released_keys": {"subset": part, "text": part, "pool_text": pool.keys}}
    return replace(pool, features=features)


def test_a_published_subset_keeps_its_own_size_unless_the_budget_is_asked_for():
    pool = released_pool(20, [3, 1, 8])
    published = Released().select(pool, 4, rng())
    assert published.positions.tolist() == [1, 3, 8]
    assert Released().fixed_size
    assert not Released(size="budget").fixed_size
    cut = Released(size="budget").select(pool, 2, rng())
    assert set(cut.positions.tolist()) < {1, 3, 8}
    more = Released(size="budget").select(pool, 5, rng())
    assert set(more.positions.tolist()) > {1, 3, 8}
    assert more.notes["rows_drawn_besides"] == 2


def test_a_subset_of_another_data_set_is_refused():
    pool = released_pool(5, [0])
    other = {"subset": keys("x"), "text": keys("x"), "pool_text": pool.keys}
    with pytest.raises(DataError, match="none of the 1 rows"):
        Released().select(replace(pool, features={"released_keys": other}), 1, rng())


def test_features_of_another_pool_are_refused():
    pool = random_pool(0, 9)
    short = replace(pool, features={**pool.features, "hidden_last": np.zeros((8, 2))})
    with pytest.raises(DataError, match="'hidden_last' has 8 rows but the pool has 9"):
        SemDeDup().select(short, 2, rng())
    odd = {"rows": pool.features["coincide"]["rows"], "layers": 5}
    with pytest.raises(DataError, match="2 x 5 layers"):
        Coincide().select(replace(pool, features={"coincide": odd}), 2, rng())


def test_a_misspelt_choice_names_the_key():
    with pytest.raises(ConfigError, match=r"selector.features='clip'"):
        SelfSup(features="clip")
    with pytest.raises(ConfigError, match=r"selector.allocation"):
        RandomPerSource(allocation="even")


def test_cluster_counts_follow_the_papers_share():
    assert cluster_count(None, 665_298) == 10_000
    assert cluster_count(None, 8_700) == 131
    assert cluster_count(None, 5) == 1
    assert cluster_count(40, 5) == 40
