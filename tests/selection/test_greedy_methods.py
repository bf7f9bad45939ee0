"""D2-Pruning and Self-Filter against a slow, literal reading of their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from literal import SEEDS, in_key_order, rng, with_features
from selector_pools import random_pool

from icons_repro.selection.d2_pruning import D2Pruning
from icons_repro.selection.self_filter import SelfFilter


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
