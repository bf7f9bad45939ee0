"""DataTailor against the released code's loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from literal import rng, with_features
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from selector_pools import random_pool

from icons_repro.features.rows import FeatureRows
from icons_repro.selection import ward
from icons_repro.selection.base import canonical_order
from icons_repro.selection.datatailor import DataTailor


def clumped(n: int):
    """Three sources in key order, each of several clumps, with features of six numbers."""
    pool = random_pool(2, n, text=0.0)
    draw = np.random.default_rng(3)
    order = canonical_order(pool.keys)
    sources = np.empty(n, dtype="U1")
    sources[order] = np.sort(draw.integers(0, 3, n)).astype("U1")
    last = draw.standard_normal((n, 6)) * 0.3 + draw.standard_normal((5, 6))[draw.integers(0, 5, n)]
    spectrum = {
        "last": last.astype(np.float32),
        "entropy": draw.uniform(2, 5, n).astype(np.float32),
        "top_share": (draw.uniform(0.1, 0.3, n) + 0.2 * (sources == "1")).astype(np.float32),
    }
    return with_features(
        replace(pool, sources=sources), spectrum=spectrum, rounds=draw.integers(1, 5, n)
    )


def literal(pool, budget: float) -> tuple[np.ndarray, dict[str, float]]:
    """make_clustering.py, relationship_value_calculation.py and datatailor_selector.py."""
    order = canonical_order(pool.keys)
    given = {name: a[order].astype(float) for name, a in pool.features["spectrum"].items()}
    rounds, sources = pool.features["rounds"][order], pool.sources[order]
    blocks = [np.flatnonzero(sources == name).tolist() for name in np.unique(sources)]
    s, value, share = given["entropy"], np.empty(len(order)), {}
    for block in blocks:
        x = given["last"][block]
        tree = linkage(pdist(x), method="ward")
        labels = fcluster(tree, t=tree[-1][2] * 0.1, criterion="distance") - 1
        means = [x[labels == c].mean(axis=0) for c in range(labels.max() + 1)]
        unique, representative = np.empty(len(block)), np.empty(len(block))
        for i in range(len(block)):
            own = np.flatnonzero(labels == labels[i])
            d = squareform(pdist(x[own]))
            mine = d[own.tolist().index(i)]
            mean_sum = d.sum() / len(own)
            unique[i] = (mine * s[block][own]).sum() / mean_sum if mean_sum else np.nan
            others = [m for c, m in enumerate(means) if c != labels[i]]
            a = means[labels[i]]
            cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in others]
            representative[i] = np.mean([math.exp(c) for c in cosines]) * s[block][i]
        ranked = [
            np.argsort(np.argsort(v, kind="stable"), kind="stable") / len(block)
            for v in (s[block], unique, representative)
        ]
        for at, i in enumerate(block):
            r = rounds[i]
            value[i] = (ranked[0][at] * r + ranked[1][at] + ranked[2][at]) / (r + 2)
        share[sources[block[0]]] = len(block) * given["top_share"][block].mean() ** 2
    total = sum(share.values())
    back = np.empty(len(order))
    back[order] = value
    return back, {name: budget * len(order) * part / total for name, part in share.items()}


def test_values_and_quotas_are_those_of_the_released_loops():
    pool = clumped(150)
    chosen = DataTailor().select(pool, 30, rng())
    value, quota = literal(pool, 0.2)
    np.testing.assert_allclose(chosen.scores, value, atol=1e-12)
    for name, exact in quota.items():
        assert abs(chosen.notes["quota_by_source"][name] - exact) < 1
    assert max(chosen.notes["clusters_by_source"].values()) > 3
    for name, count in chosen.notes["quota_by_source"].items():
        own = np.flatnonzero(pool.sources == name)
        best = own[np.argsort(-value[own])[:count]]
        assert set(best) == set(chosen.positions[pool.sources[chosen.positions] == name])


def test_tiles_give_what_the_whole_cluster_gives(monkeypatch):
    x = np.random.default_rng(0).standard_normal((90, 5)).astype(np.float32)
    rows = FeatureRows(x, np.random.default_rng(1).permutation(90))
    places, weights = np.arange(10, 80), np.random.default_rng(2).random(70)
    d = squareform(pdist(x[rows.order[places]].astype(float)))
    monkeypatch.setattr(ward, "TILE", 16)
    monkeypatch.setattr(ward, "HELD_FLOATS", 20)
    sums, total = ward.distance_sums(rows, places, weights)
    np.testing.assert_allclose(sums, d @ weights, rtol=1e-6)
    assert total == pytest.approx(d.sum(), rel=1e-6)


def test_a_large_source_is_clustered_on_a_sample_and_clumps_stay_together():
    draw = np.random.default_rng(0)
    clump = draw.integers(0, 4, 400)
    x = (10 * draw.standard_normal((4, 8))[clump] + 0.1 * draw.standard_normal((400, 8))).astype(
        np.float32
    )
    rows = FeatureRows(x, np.arange(400))
    exact = ward.ward_labels(rows, np.arange(400), 0.1, 400, rng())
    drawn = ward.ward_labels(rows, np.arange(400), 0.1, 60, rng())
    for labels in (exact, drawn):
        assert labels.max() == 3
        assert len({(a, b) for a, b in zip(labels, clump, strict=True)}) == 4
