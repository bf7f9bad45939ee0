"""ScalSelect against the released code's steps, written out on the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
from literal import in_key_order, rng, with_features
from selector_pools import random_pool

from icons_repro.features import rows as feature_rows
from icons_repro.selection.scalselect import ScalSelect, components


def literal_leverage(x: np.ndarray, energy: float) -> tuple[np.ndarray, int]:
    """ChangtiWu/ScalSelect, scripts/cur.py as run_cur.sh calls it: centre, SVD, U_k."""
    x = x - x.mean(axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    reached = np.cumsum(s**2) / (s**2).sum()
    k = max(1, min(int(np.searchsorted(reached, energy)) + 1, len(s)))
    return (u[:, :k] ** 2).sum(axis=1), k


def pool_of(x: np.ndarray):
    pool = random_pool(0, len(x), text=0.0)
    return with_features(pool, vision_tokens={"attended": x, "mean": x})


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("shape", [(60, 8), (7, 12)])
def test_scores_are_the_leverage_of_the_whole_matrixs_svd(energy, shape):
    x = np.random.default_rng(1).standard_normal(shape) @ np.diag(0.8 ** np.arange(shape[1]))
    pool = pool_of((x + 3).astype(np.float32))
    chosen = ScalSelect(energy=energy).select(pool, 5, rng())
    order, values = in_key_order(pool, pool.features["vision_tokens"]["attended"])
    expected, k = literal_leverage(values, energy)
    assert chosen.notes["components"] == k
    np.testing.assert_allclose(chosen.scores[order], expected, rtol=2e-4, atol=1e-6)
    assert set(chosen.positions) == set(np.argsort(-chosen.scores)[:5])


def test_blocks_give_what_the_whole_gives(monkeypatch):
    x = np.random.default_rng(2).standard_normal((200, 16)).astype(np.float32)
    whole = ScalSelect().select(pool_of(x), 20, rng()).scores
    monkeypatch.setattr(feature_rows, "BLOCK_FLOATS", 16 * 32)
    np.testing.assert_allclose(ScalSelect().select(pool_of(x), 20, rng()).scores, whole, rtol=1e-4)


def test_rows_without_an_image_come_last():
    pool = random_pool(3, 30, text=0.5)
    chosen = ScalSelect().select(pool, int(pool.has_image.sum()), rng())
    assert pool.has_image[chosen.positions].all()


def test_rows_all_alike_have_no_direction():
    assert components(np.zeros(4), 0.9) == 0
    chosen = ScalSelect().select(pool_of(np.full((9, 3), 2.0, np.float32)), 4, rng())
    assert (chosen.scores == 0).all()
