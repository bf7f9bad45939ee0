"""XMAS against a literal reading of its published loops."""

from __future__ import annotations

import numpy as np
import pytest
from literal import SEEDS, rng, with_features
from selector_pools import random_pool

from icons_repro.core.errors import DataError
from icons_repro.selection.base import canonical_order
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.xmas import Xmas, balanced, instability, trajectories


def published_draw(clusters: dict, stability: dict, text: list, draws: dict, amount: int) -> list:
    """BigML-CS-UCLA/XMAS, XMAS/cluster_data_selection.py:34-79, loop for loop.

    Of ids in key order; its random sample is by given numbers, and never asks for more than it has.
    """
    own = max(clusters.values(), default=-1) + 1
    clusters = {**clusters, **dict.fromkeys(text, own)}
    members: dict = {}
    for identity, cluster in clusters.items():
        members.setdefault(cluster, []).append(identity)
    names, counts = np.unique(list(clusters.values()), return_counts=True)
    order = [int(i) for i in np.argsort(counts, kind="stable") if counts[i] > 2]
    sampled: list = []
    n = amount
    for i in range(len(order)):
        share = n // (len(order) - i)
        points = members[names[order[i]]]
        if names[order[i]] == own:
            taken = sorted(points, key=lambda p: -draws[p])[:share]
        else:
            taken = [p for p, _ in sorted(((p, stability[p]) for p in points), key=lambda x: x[1])]
            taken = taken[:share]
        sampled.extend(taken)
        n -= len(taken)
    return sampled


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [7, 30, 60])
def test_the_draw_is_that_of_the_published_loop_on_the_same_clusters(seed: int, k: int) -> None:
    pool = random_pool(seed, 80)
    chosen = Xmas(clusters=9).select(pool, k, rng())
    values = pool.features["attention_trajectory"].astype(np.float64)
    paths = [[sum(sorted(point, reverse=True)[:5]) for point in row] for row in values]
    steady = {i: float(np.abs(np.diff(path)).sum()) for i, path in enumerate(paths)}
    order = canonical_order(pool.keys).tolist()
    clusters = {i: int(chosen.columns["cluster"][i]) for i in order if pool.has_image[i]}
    text = np.flatnonzero(~pool.has_image).tolist()
    draws = dict(enumerate(uniform_by_key(pool, rng())))
    expected = published_draw(clusters, steady, text, draws, k)
    taken = set(chosen.positions.tolist())
    assert set(expected) <= taken
    assert len(taken) == k
    assert chosen.notes.get("rows_added_to_fill_the_budget", 0) == k - len(expected)
    for i in clusters:
        np.testing.assert_allclose(chosen.columns["instability"][i], steady[i], rtol=1e-5)


def test_rows_are_clustered_by_where_their_trajectories_go() -> None:
    pool = random_pool(0, 60, text=0.0)
    kind = np.arange(60) % 3
    values = np.zeros((60, 4, 5), dtype=np.float32)
    values[:, :, 0] = kind[:, None] * 10 + rng().random((60, 4)) * 0.1
    chosen = Xmas(clusters=3).select(with_features(pool, attention_trajectory=values), 30, rng())
    found = chosen.columns["cluster"]
    assert len({(int(a), int(b)) for a, b in zip(found, kind, strict=True)}) == len(set(found))
    assert np.bincount(kind[chosen.positions]).tolist() == [10, 10, 10]
    for cluster in range(3):
        own = chosen.scores[kind == cluster]
        taken = chosen.scores[np.intersect1d(chosen.positions, np.flatnonzero(kind == cluster))]
        assert sorted(own)[-10:] == sorted(taken)


def test_the_rows_of_a_small_cluster_go_to_the_larger_ones_and_of_two_rows_none_is_taken() -> None:
    assert balanced(np.array([2, 3, 50, 4]), 30).tolist() == [0, 3, 23, 4]
    assert balanced(np.array([10, 10, 10]), 7).tolist() == [2, 2, 3]
    assert balanced(np.array([2, 1]), 3).tolist() == [0, 0]


def test_a_row_whose_attention_stays_has_no_instability() -> None:
    path = np.array([[2, 2, 2], [0, 3, 1]], dtype=np.float32)
    assert instability(path).tolist() == [0.0, 5.0]
    values = np.array([[[1, 4, 2], [5, 0, 3]]], dtype=np.float32)
    assert trajectories(values, 2).tolist() == [[6.0, 8.0]]


def test_one_point_of_a_run_is_no_trajectory() -> None:
    pool = random_pool(0, 10)
    one = with_features(pool, attention_trajectory=np.ones((10, 1, 5), dtype=np.float32))
    with pytest.raises(DataError, match=r"two points .* features\.trajectory_points"):
        Xmas().select(one, 3, rng())
