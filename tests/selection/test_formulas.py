"""Each method against a slow, literal reading of its formula on small inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selector_pools import random_pool

from icons_repro.features.clustering import Rows, kmeans
from icons_repro.selection.base import canonical_order
from icons_repro.selection.clip_score import ClipScore
from icons_repro.selection.coincide import (
    Coincide,
    allocate,
    greedy_mmd,
    language_halves,
    mean_kernel,
    transferability,
)
from icons_repro.selection.d2_pruning import D2Pruning
from icons_repro.selection.el2n import EL2N
from icons_repro.selection.less import Less
from icons_repro.selection.longest import Longest
from icons_repro.selection.perplexity import Perplexity
from icons_repro.selection.self_filter import SelfFilter
from icons_repro.selection.self_sup import SelfSup
from icons_repro.selection.semdedup import SemDeDup
from icons_repro.selection.tive import Tive

SEEDS = range(4)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def with_features(pool, **features):
    return replace(pool, features={**pool.features, **features})


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / math.sqrt(x @ x) / math.sqrt(y @ y))


def in_key_order(pool, array) -> tuple[list[int], np.ndarray]:
    order = canonical_order(pool.keys).tolist()
    return order, np.asarray(array, dtype=np.float64)[order]


# --- rankings -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_el2n_and_perplexity_take_the_stated_band(seed):
    pool = random_pool(seed, 21)
    for method, name in ((EL2N, "el2n"), (Perplexity, "loss")):
        values = pool.features["forward_stats"][name]
        ascending = np.argsort(values).tolist()
        for keep, expected in (
            ("low", ascending[:5]),
            ("high", ascending[-5:]),
            ("middle", ascending[8:13]),
        ):
            assert method(keep=keep).select(pool, 5, rng()).positions.tolist() == sorted(expected)
    perplexity = Perplexity().select(pool, 5, rng()).columns["perplexity"]
    loss = pool.features["forward_stats"]["loss"].tolist()
    np.testing.assert_allclose(perplexity, [math.exp(v) for v in loss])


def test_an_even_band_leans_to_the_easier_side():
    pool = random_pool(0, 4)
    stats = {"loss": np.array([4.0, 1.0, 3.0, 2.0]), "el2n": np.array([4.0, 1.0, 3.0, 2.0])}
    pool = with_features(pool, forward_stats=stats)
    for method in (EL2N(), Perplexity()):
        assert method.select(pool, 1, rng()).positions.tolist() == [3]
        assert method.select(pool, 3, rng()).positions.tolist() == [1, 2, 3]


@pytest.mark.parametrize("seed", SEEDS)
def test_clip_score_is_the_cosine_and_text_only_rows_follow_the_rule(seed):
    pool = random_pool(seed, 30)
    clip = pool.features["clip"]
    literal = {
        i: cosine(clip["image"][i].astype(float), clip["text"][i].astype(float))
        for i in np.flatnonzero(pool.has_image)
    }
    best = sorted(literal, key=lambda i: -literal[i])
    chosen = ClipScore().select(pool, 6, rng())
    assert chosen.positions.tolist() == sorted(best[:6])
    for i, value in literal.items():
        assert math.isclose(chosen.scores[i], value, abs_tol=1e-6)
    assert np.isnan(chosen.scores[~pool.has_image]).all()
    shared = ClipScore(text_only="proportional").select(pool, 10, rng())
    text = int((~pool.has_image).sum())
    taken = int((~pool.has_image[shared.positions]).sum())
    assert abs(taken - 10 * text / 30) < 1
    with_image = shared.positions[pool.has_image[shared.positions]].tolist()
    assert with_image == sorted(best[: 10 - taken])
    everything_with_an_image = ClipScore().select(pool, 30 - text, rng())
    assert pool.has_image[everything_with_an_image.positions].all()


def test_less_takes_the_maximum_over_tasks_and_subtasks():
    pool = random_pool(2, 30)
    values = pool.features["influence_less"].values
    chosen = Less().select(pool, 7, rng())
    literal = sorted(range(30), key=lambda i: -max(values[i]))[:7]
    assert chosen.positions.tolist() == sorted(literal)
    single = Less(tasks=["mme"]).select(pool, 7, rng())
    literal = sorted(range(30), key=lambda i: -max(values[i][1:]))[:7]
    assert single.positions.tolist() == sorted(literal)


def test_longest_counts_words():
    pool = random_pool(3, 20)
    pool = replace(pool, words=np.random.default_rng(3).permutation(20))
    assert set(Longest().select(pool, 4, rng()).positions) == set(np.argsort(pool.words)[-4:])
    answers = np.random.default_rng(4).permutation(20)
    pool = with_features(pool, answer_words=answers)
    chosen = Longest(of="answers").select(pool, 4, rng())
    assert set(chosen.positions) == set(np.argsort(answers)[-4:])


# --- k-means methods ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", SEEDS)
def test_self_sup_is_the_distance_to_the_nearest_centre(metric, seed):
    pool = random_pool(seed, 40)
    selector = SelfSup(features="hidden_mean", clusters=4, metric=metric)
    chosen = selector.select(pool, 9, rng())
    spherical = metric == "cosine"
    order = canonical_order(pool.keys)
    found = kmeans(Rows(pool.features["hidden_mean"], order, spherical), 4, rng(), 50, spherical)
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
    found = kmeans(Rows(array, order, unit=True), clusters, rng())
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


# --- greedy methods -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
@pytest.mark.parametrize("clip", [1e-7, None])
def test_d2_pruning_passes_messages_as_written(seed, distance, clip):
    pool = random_pool(seed, 30)
    order, x = in_key_order(pool, pool.features["hidden_mean"] / 2)
    pool = with_features(pool, hidden_mean=(pool.features["hidden_mean"] / 2))
    s = in_key_order(pool, pool.features["forward_stats"]["margin"])[1]
    if clip is not None:
        s = np.maximum(s, clip)
    n, neighbours, gamma = 30, 5, 0.4
    d = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    near = [[j for j in np.argsort(d[i]) if j != i][:neighbours] for i in range(n)]
    d = d if distance == "squared" else np.sqrt(d)
    u = [s[i] + sum(math.exp(-d[i][j]) * s[j] for j in near[i]) for i in range(n)]
    taken: list[int] = []
    while len(taken) < 11:
        i = max((i for i in range(n) if i not in taken), key=lambda i: u[i])
        taken.append(i)
        for j in near[i]:
            if j not in taken:
                u[j] -= math.exp(-gamma * d[i][j]) * u[i]
    chosen = D2Pruning(distance=distance, clip=clip).select(pool, 11, rng())
    assert chosen.positions.tolist() == sorted(order[i] for i in taken)
    by_turn = np.argsort(chosen.columns["pick_order"])[:11]
    assert by_turn.tolist() == [order[i] for i in taken]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("neighbours", "n", "k"), [(10, 120, 60), (3, 40, 39), (10, 8, 5)])
def test_self_filter_penalises_the_nearest_free_rows(seed, neighbours, n, k):
    pool = random_pool(seed, n)
    clip = pool.features["clip"]
    image = np.where(pool.has_image[:, None], clip["image"], 0.0)
    order, x = in_key_order(pool, np.concatenate([image, clip["text"]], axis=1))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    d = in_key_order(pool, pool.features["self_filter"]["difficulty"])[1].tolist()
    left = set(range(n))
    taken = []
    for _ in range(k):
        i = max(sorted(left), key=lambda i: d[i])
        left.remove(i)
        taken.append(i)
        for j in sorted(left, key=lambda j: -(x[i] @ x[j]))[:neighbours]:
            d[j] -= d[i] * (x[i] @ x[j]) ** 2
    chosen = SelfFilter(neighbours=neighbours).select(pool, k, rng())
    by_turn = np.argsort(chosen.columns["pick_order"])[:k]
    assert by_turn.tolist() == [order[i] for i in taken]


# --- COINCIDE -------------------------------------------------------------------------------


def gaussian(x, y, sigma=1.0) -> float:
    return math.exp(-((x - y) ** 2).sum() / (2 * sigma**2))


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
    rows, places = Rows(x, np.arange(14)), np.arange(14)
    typical = mean_kernel(x, 1.0)
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


def literal_allocation(logits, sizes, k) -> list[int]:
    """One visit as the public code does it, repeated over what is left."""
    take = [0] * len(sizes)
    left = min(k, sum(sizes))
    while left > 0:
        order = sorted(range(len(sizes)), key=lambda c: -logits[c])
        order = [c for c in order if take[c] < sizes[c]]
        for place, c in enumerate(order):
            top = max(logits[o] for o in order[place:])
            total = sum(math.exp(logits[o] - top) for o in order[place:])
            quota = round(left * math.exp(logits[c] - top) / total)
            quota = min(quota, sizes[c] - take[c])
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
    assert take.tolist() == literal_allocation(logits.tolist(), sizes.tolist(), k)


def test_allocation_survives_logits_that_would_overflow():
    take = allocate(np.array([4000.0, 0.0, -4000.0]), np.array([2, 5, 5]), 8)
    assert take.tolist() == [2, 5, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_coincide_end_to_end(seed):
    pool = random_pool(seed, 60)
    array = pool.features["coincide"]["rows"]
    order = canonical_order(pool.keys)
    found = kmeans(Rows(array, order), 5, rng())
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


# --- TIVE -----------------------------------------------------------------------------------


def test_tive_scores_rows_by_mean_cosine_inside_their_source():
    pool = random_pool(4, 40, text=0.0)
    g = pool.features["instance_gradients"]["rows"].astype(float)
    chosen = Tive().select(pool, 10, rng())
    for i in range(40):
        own = np.flatnonzero(pool.sources == pool.sources[i])
        literal = np.mean([cosine(g[i], g[j]) for j in own])
        assert math.isclose(chosen.scores[i], literal, abs_tol=1e-6)


def test_tive_shares_the_budget_by_mean_gradient_norm():
    pool = random_pool(0, 60)
    sources = np.repeat(["a", "b", "c"], 20)
    norms = np.where(sources == "a", 3.0, np.where(sources == "b", 2.0, 1.0))
    rows = pool.features["instance_gradients"]["rows"]
    pool = replace(pool, sources=sources)
    pool = with_features(pool, instance_gradients={"rows": rows, "norms": norms})
    chosen = Tive().select(pool, 12, rng())
    assert chosen.notes["quota_by_source"] == {"a": 6, "b": 4, "c": 2}
    assert Tive().select(pool, 45, rng()).notes["quota_by_source"] == {"a": 20, "b": 17, "c": 8}
    without = Tive(exclude_sources=["a"]).select(pool, 12, rng())
    assert without.notes["quota_by_source"] == {"b": 8, "c": 4}


def test_tive_draws_with_softmax_probabilities():
    pool = random_pool(1, 4)
    rows = np.array([[1.0, 0], [1, 0.2], [0.5, 1], [0, 1]])
    pool = replace(pool, sources=np.array(["a"] * 4))
    pool = with_features(pool, instance_gradients={"rows": rows, "norms": np.ones(4)})
    selector = Tive(scale=4.0)
    scores = selector.select(pool, 1, rng()).scores
    expected = np.exp(4 * scores) / np.exp(4 * scores).sum()
    draws = [
        int(selector.select(pool, 1, np.random.default_rng(s)).positions[0]) for s in range(4000)
    ]
    counts = np.bincount(draws, minlength=4)
    chi_square = ((counts - 4000 * expected) ** 2 / (4000 * expected)).sum()
    assert chi_square < 16.3  # p = 0.001 with three degrees of freedom
