"""COINCIDE against a slow, literal reading of its formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from literal import SEEDS, cosine, gaussian, rng
from selector_pools import random_pool

from icons_repro.features.clustering import kmeans
from icons_repro.features.rows import FeatureRows
from icons_repro.selection.base import canonical_order
from icons_repro.selection.coincide import (
    Coincide,
    allocate,
    language_halves,
    transferability,
)
from icons_repro.selection.mmd import greedy_mmd, mean_kernel


def literal_mmd_pick(x: np.ndarray, quota: int) -> list[int]:
    """The public code's reading: minimise MMD^2 itself for every candidate."""
    n = len(x)
    k = np.array([[gaussian(a, b) for b in x] for a in x])
    picked: list[int] = []
    for _ in range(quota):
        best, least = -1, math.inf
        for i in (i for i in range(n) if i not in picked):
            s = [*picked, i]
            mmd = k.mean() + k[np.ix_(s, s)].mean() - 2 * k[:, s].mean()
            if mmd < least - 1e-12:
                best, least = i, mmd
        picked.append(best)
    return picked


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_mmd_lowers_the_discrepancy_most(seed):
    x = np.random.default_rng(seed).standard_normal((14, 3)).astype(np.float32) / 2
    rows, places = FeatureRows(x, np.arange(14)), np.arange(14)
    typical = mean_kernel(rows, places, 1.0)
    literal = [np.mean([gaussian(a, b) for b in x.astype(float)]) for a in x.astype(float)]
    np.testing.assert_allclose(typical, literal, rtol=1e-9)
    for quota in (1, 5, 13):
        picked = greedy_mmd(rows, places, typical, quota, 1.0)
        assert picked.tolist() == literal_mmd_pick(x.astype(float), quota)
    assert greedy_mmd(rows, places, typical, 14, 1.0).tolist() == list(range(14))


def test_transferability_averages_the_cosines_up_to_the_cutoff():
    halves = np.array([[1.0, 0], [0, 1], [1, 0.01], [-1, 0]])
    got = transferability(halves, 0.9)
    for i, row in enumerate(halves):
        cosines = [cosine(row, other) for other in halves]
        counted = [c for c in cosines if c <= 0.9]
        assert math.isclose(got[i], sum(counted) / len(counted))
    assert transferability(np.ones((3, 2)), 0.9).tolist() == [0, 0, 0]


def test_language_halves_follow_the_layout():
    centroids = np.arange(12.0).reshape(1, 12)  # two layers: v v v t t t | v v v t t t
    assert language_halves(centroids, 2).tolist() == [[3, 4, 5, 9, 10, 11]]


def literal_allocation(logits, sizes, k, quotas=None) -> list[int]:
    """One visit as the public code does it, repeated over what is left; notes unrounded quotas."""
    take = [0] * len(sizes)
    left = min(k, sum(sizes))
    while left > 0:
        order = sorted(range(len(sizes)), key=lambda c: -logits[c])
        order = [c for c in order if take[c] < sizes[c]]
        for place, c in enumerate(order):
            top = max(logits[o] for o in order[place:])
            total = sum(math.exp(logits[o] - top) for o in order[place:])
            quota = left * math.exp(logits[c] - top) / total
            if quotas is not None:
                quotas.append(quota)
            quota = min(round(quota), sizes[c] - take[c])
            take[c] += quota
            left -= quota
    return take


@given(
    st.lists(st.tuples(st.floats(-60, 60), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_allocation_is_the_published_one_and_never_under_fills(clusters, k):
    logits, sizes = np.array([c[0] for c in clusters]), np.array([c[1] for c in clusters])
    take = allocate(logits, sizes, k)
    assert take.sum() == min(k, sizes.sum())
    assert (take <= sizes).all()
    quotas: list[float] = []
    published = literal_allocation(logits.tolist(), sizes.tolist(), k, quotas)
    # Beside a half the last bit of a sum decides: -5, -5 and -41 share 7 rows as 3.4999999999999996
    # or 3.5, by the order in which they are added.
    assume(all(abs(quota % 1 - 0.5) > 1e-9 for quota in quotas))
    assert take.tolist() == published


def test_half_a_row_goes_to_the_even_number():
    assert allocate(np.zeros(2), np.array([9, 9]), 7).tolist() == [4, 3]
    assert allocate(np.zeros(2), np.array([9, 9]), 5).tolist() == [2, 3]


def test_allocation_survives_logits_that_would_overflow():
    take = allocate(np.array([4000.0, 0.0, -4000.0]), np.array([2, 5, 5]), 8)
    assert take.tolist() == [2, 5, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_coincide_end_to_end(seed):
    pool = random_pool(seed, 60)
    array = pool.features["coincide"]["rows"]
    order = canonical_order(pool.keys)
    found = kmeans(FeatureRows(array, order), 5, rng())
    chosen = Coincide(clusters=5).select(pool, 20, rng())
    x = array.astype(np.float32).astype(float)
    members = [order[found.labels == c] for c in range(5)]
    density = [np.mean([[gaussian(x[a], x[b]) for a in m] for b in m]) for m in members]
    halves = found.centroids.astype(float).reshape(5, 2, 2, 3)[:, :, 1].reshape(5, 6)
    cosines = [[cosine(a, b) for b in halves] for a in halves]
    transfer = [sum(c for c in r if c <= 0.9) / sum(c <= 0.9 for c in r) for r in cosines]
    logits = [s / (0.1 * d) for s, d in zip(transfer, density, strict=True)]
    take = literal_allocation(logits, [len(m) for m in members], 20)
    expected: list[int] = []
    for m, quota in zip(members, take, strict=True):
        whole = quota == len(m)
        expected += m.tolist() if whole else [m[i] for i in literal_mmd_pick(x[m], quota)]
    assert chosen.positions.tolist() == sorted(expected)
