"""PRISM against its formula, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from literal import cosine, rng, with_features
from selector_pools import random_pool

from icons_repro.selection.prism import Prism


def pool_of(n: int, text: float = 0.0):
    pool = random_pool(5, n, text=text)
    x = np.random.default_rng(1).standard_normal((n, 6)).astype(np.float32) + 4
    x[~pool.has_image] = np.nan
    return with_features(pool, vision_tokens={"attended": x, "mean": x})


def test_scores_are_minus_the_mean_correlation_with_every_other_row():
    pool = pool_of(25)
    chosen = Prism().select(pool, 6, rng())
    centred = pool.features["vision_tokens"]["mean"].astype(float)
    centred -= centred.mean(axis=0)
    for i in range(25):
        others = [cosine(centred[i], centred[j]) for j in range(25) if j != i]
        assert chosen.scores[i] == pytest.approx(-np.mean(others), abs=1e-6)
    assert set(chosen.positions) == set(np.argsort(-chosen.scores)[:6])


def test_what_all_rows_share_does_not_count():
    """Without the mean taken away the far offset would make all cosines one."""
    pool = pool_of(25)
    near = Prism().select(pool, 6, rng())
    x = pool.features["vision_tokens"]["mean"] + np.float32(64)
    moved = with_features(pool, vision_tokens={"attended": x, "mean": x})
    np.testing.assert_allclose(Prism().select(moved, 6, rng()).scores, near.scores, atol=1e-4)


def test_every_text_only_row_is_kept_where_the_budget_holds_them():
    pool = pool_of(40, text=0.25)
    text = int((~pool.has_image).sum())
    kept = Prism().select(pool, text + 5, rng())
    assert (~pool.has_image[kept.positions]).sum() == text
    assert kept.notes["text_only_rows"] == text
    few = Prism().select(pool, text, rng())
    assert few.notes["text_only_rows"] == round(text * text / 40)
    none = Prism(text_only="exclude").select(pool, 10, rng())
    assert pool.has_image[none.positions].all()
