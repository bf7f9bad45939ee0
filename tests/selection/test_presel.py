"""PreSel against the released code's loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from literal import rng, with_features
from selector_pools import random_pool

from icons_repro.features.rows import FeatureRows
from icons_repro.selection.presel import (
    PreSel,
    cluster_quotas,
    loss_ratio,
    softmax,
    source_values,
    typicality,
)


def literal_quotas(free: list[int], sizes: list[int], n: int) -> list[int]:
    """bardisafa/PreSel, data_process/kmeans_clust.py:132-162: one pass of corrections."""
    total = sum(free)
    take = {c: min(round(f / total * n), f) for c, f in enumerate(free)}
    deficit = n - sum(take.values())
    if deficit > 0:
        for c in sorted(take, key=lambda c: sizes[c], reverse=True):
            if take[c] < free[c]:
                take[c] += 1
                deficit -= 1
                if deficit == 0:
                    break
    elif deficit < 0:
        for c in sorted(take, key=lambda c: sizes[c]):
            if take[c] > 0:
                take[c] -= 1
                deficit += 1
                if deficit == 0:
                    break
    return list(take.values())


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=12),
    st.floats(0, 1),
)
def test_cluster_quotas_are_the_released_ones_and_always_add_up(clusters, share):
    free, sizes = [f for f, _ in clusters], [f + more for f, more in clusters]
    n = int(share * sum(free))
    if n == 0:
        return
    found, released = cluster_quotas(free, sizes, n), literal_quotas(free, sizes, n)
    assert sum(found) == n
    assert all(0 <= t <= f for t, f in zip(found, free, strict=True))
    if sum(released) == n:
        assert found == released


def test_values_are_means_of_loss_ratios_of_the_reference_rows():
    asked, unasked = np.array([1.0, 2.0, np.nan, 3.0, 1.0]), np.array([2.0, 2.0, 5.0, 2.0, 0.0])
    ratio = loss_ratio(asked, unasked)
    np.testing.assert_array_equal(ratio, [0.5, 1.0, np.nan, 1.5, np.nan])
    values = source_values(ratio, np.array([0, 0, 0, 1, 2]), 3)
    np.testing.assert_allclose(values, [0.75, 1.5, 1.125])  # the last has no reference row


def test_typicality_is_the_mean_cosine_to_the_nearest_others():
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    rows = FeatureRows(x, np.arange(40), unit=True)
    places = np.arange(3, 30)
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True))[places]
    expected = [np.sort(np.delete(unit @ unit[i], i))[-5:].mean() for i in range(27)]
    np.testing.assert_allclose(typicality(rows, places, 5), expected, rtol=1e-5)
    assert typicality(rows, places[:1], 5).tolist() == [0.0]
    np.testing.assert_allclose(typicality(rows, places[:2], 5), [unit[0] @ unit[1]] * 2, rtol=1e-5)


def reference_pool(n: int = 120):
    """Three sources, every tenth row a reference row; source b's questions matter most."""
    pool = random_pool(1, n, text=0.0)
    draw = np.random.default_rng(2)
    sources = np.array(["a", "b", "c"])[draw.integers(0, 3, n)]
    asked = np.where(np.arange(n) % 10 == 0, np.where(sources == "b", 0.2, 0.9), np.nan)
    images = draw.standard_normal((n, 5)).astype(np.float32)
    losses = {"asked": asked, "unasked": np.ones(n)}
    return with_features(replace(pool, sources=sources), image_cls=images, question_losses=losses)


def test_the_reference_is_kept_and_the_rest_goes_by_the_softmax_of_the_values():
    pool = reference_pool()
    chosen = PreSel().select(pool, 42, rng())
    assert set(range(0, 120, 10)) <= set(chosen.positions.tolist())
    assert chosen.notes["reference_rows_kept"] == 12
    weights = softmax(-np.array([0.9, 0.2, 0.9]) * np.sqrt(3))
    for name, weight in zip("abc", weights, strict=True):
        assert abs(chosen.notes["quota_by_source"][name] - 30 * weight) < 1


def test_with_one_cluster_a_source_gives_its_most_typical_free_rows():
    pool = reference_pool()
    chosen = PreSel(cluster_share=1e-9).select(pool, 42, rng())
    free = np.arange(120) % 10 != 0
    x = pool.features["image_cls"].astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for name, count in chosen.notes["quota_by_source"].items():
        own = np.flatnonzero((pool.sources == name) & free)
        cosines = x[own] @ x[own].T
        np.fill_diagonal(cosines, -1)
        typical = np.sort(cosines, axis=1)[:, -5:].mean(axis=1)
        np.testing.assert_allclose(chosen.scores[own], typical, rtol=1e-5)
        best = own[np.argsort(-typical)[:count]]
        assert set(best) <= set(chosen.positions.tolist())


@pytest.mark.parametrize("k", [12, 5])
def test_a_reference_that_would_fill_the_budget_is_rows_like_any_other(k):
    chosen = PreSel().select(reference_pool(), k, rng())
    assert chosen.notes["reference_rows_kept"] == 0
    assert len(chosen.positions) == k
