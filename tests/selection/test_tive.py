"""TIVE against a slow, literal reading of its formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from literal import cosine, rng, with_features
from selector_pools import random_pool

from icons_repro.core.errors import ConfigError
from icons_repro.selection.tive import Tive


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


def test_a_source_to_leave_out_that_the_pool_lacks_is_refused_with_those_it_has():
    """Image folders once stood for LLaVA-665K's sources, and `textcaps` matched nothing."""
    pool = replace(random_pool(0, 6), sources=np.array(["coco", "gqa", "vg"] * 2))
    with pytest.raises(ConfigError, match=r"'textcaps', which is no source .* coco, gqa, vg"):
        Tive(exclude_sources=["textcaps"]).select(pool, 2, rng())


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
