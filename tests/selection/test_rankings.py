"""Methods that rank rows, against a slow, literal reading of their formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from literal import SEEDS, cosine, rng, with_features
from selector_pools import random_pool

from icons_repro.selection.clip_score import ClipScore
from icons_repro.selection.el2n import EL2N
from icons_repro.selection.less import Less
from icons_repro.selection.longest import Longest
from icons_repro.selection.perplexity import Perplexity


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
