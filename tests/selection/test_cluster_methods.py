"""Self-Sup and SemDeDup against a slow, literal reading of their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from literal import SEEDS, cosine, rng, with_features
from selector_pools import random_pool

from icons_repro.features.clustering import kmeans
from icons_repro.features.rows import FeatureRows
from icons_repro.selection.base import canonical_order
from icons_repro.selection.self_sup import SelfSup
from icons_repro.selection.semdedup import SemDeDup


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", SEEDS)
def test_self_sup_is_the_distance_to_the_nearest_centre(metric, seed):
    pool = random_pool(seed, 40)
    selector = SelfSup(features="hidden_mean", clusters=4, metric=metric)
    chosen = selector.select(pool, 9, rng())
    spherical = metric == "cosine"
    order = canonical_order(pool.keys)
    found = kmeans(
        FeatureRows(pool.features["hidden_mean"], order, spherical), 4, rng(), 50, spherical
    )
    centres = found.centroids.astype(float)
    literal = {}
    for i, row in enumerate(pool.features["hidden_mean"].astype(float)):
        if spherical:
            literal[i] = 1 - max(cosine(row, c) for c in centres)
        else:
            literal[i] = min(math.sqrt(((row - c) ** 2).sum()) for c in centres)
        assert math.isclose(chosen.scores[i], literal[i], abs_tol=2e-3)
    far = sorted(literal, key=lambda i: -literal[i])[:9]
    assert chosen.positions.tolist() == sorted(far)


def test_joint_clip_features_give_text_only_rows_a_zero_image_half():
    pool = random_pool(1, 12, text=0.5)
    chosen = SelfSup(clusters=1).select(pool, 12, rng())
    assert np.isfinite(chosen.scores).all()
    assert np.isnan(SelfSup(features="clip_image").select(pool, 12, rng()).scores).any()


def literal_semdedup(pool, clusters: int) -> tuple[list[list[int]], dict[int, float]]:
    """Clusters in order with their rows hard first, and m of every row; pool positions."""
    array = pool.features["hidden_last"]
    order = canonical_order(pool.keys)
    found = kmeans(FeatureRows(array, order, unit=True), clusters, rng())
    x = {int(p): array[p].astype(float) for p in order}
    visited, m = [], {}
    for c in range(len(found.centroids)):
        members = [int(p) for p, label in zip(order, found.labels, strict=True) if label == c]
        members.sort(key=lambda p: cosine(x[p], found.centroids[c].astype(float)))
        for place, p in enumerate(members):
            m[p] = max([0.0] + [cosine(x[p], x[q]) for q in members[:place]])
        visited.append(members)
    return visited, m


@pytest.mark.parametrize("seed", SEEDS)
def test_semdedup_keeps_rows_without_an_earlier_duplicate(seed):
    pool = random_pool(seed, 40)
    _, m = literal_semdedup(pool, 3)
    chosen = SemDeDup(clusters=3).select(pool, 12, rng())
    for p, value in m.items():
        assert math.isclose(-chosen.scores[p], value, abs_tol=1e-5)
    highest_kept = max(m[p] for p in chosen.positions.tolist())
    lowest_dropped = min(m[p] for p in m if p not in chosen.positions)
    assert highest_kept <= lowest_dropped + 1e-5
    assert math.isclose(chosen.notes["epsilon"], 1 - highest_kept, abs_tol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_semdedup_with_a_list_of_epsilons_truncates_in_cluster_order(seed):
    pool = random_pool(seed, 40)
    visited, m = literal_semdedup(pool, 3)
    flat = [p for members in visited for p in members]
    epsilons = [0.05, 0.3, 0.6]
    kept = {e: [p for p in flat if m[p] <= 1 - e] for e in epsilons}
    fitting = [e for e in epsilons if len(kept[e]) >= 12]
    chosen = SemDeDup(clusters=3, epsilons=epsilons).select(pool, 12, rng())
    assert fitting
    smallest = min(fitting, key=lambda e: len(kept[e]))
    assert chosen.positions.tolist() == sorted(kept[smallest][:12])
    assert chosen.notes["epsilon"] == smallest


def test_semdedup_takes_one_of_each_before_any_duplicate():
    pool = random_pool(0, 12)
    distinct = np.eye(4, 5, dtype=np.float16)
    pool = with_features(pool, hidden_last=np.repeat(distinct, 3, axis=0))
    for clusters in (1, 2, 4, 12):
        chosen = SemDeDup(clusters=clusters).select(pool, 4, rng())
        assert sorted(p // 3 for p in chosen.positions.tolist()) == [0, 1, 2, 3]
