"""Clusters larger than a block give what they give whole; a device changes no more than bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from selector_pools import SELECTORS, random_pool

from icons_repro.features.rows import FeatureRows, unit_rows
from icons_repro.selection import mmd, semdedup
from icons_repro.selection.coincide import Coincide
from icons_repro.selection.semdedup import earlier_similarity

CLUSTERED = ("semdedup", "self_sup", "self_sup_image", "coincide", "d2_pruning", "self_filter")


def rows_of(n: int, d: int) -> FeatureRows:
    x = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    return FeatureRows(unit_rows(x), np.random.default_rng(1).permutation(n))


@pytest.mark.parametrize("block", [10, 64, 333])
def test_a_cluster_read_in_parts_has_the_similarities_of_the_whole(block, monkeypatch):
    rows, places = rows_of(200, 5), np.random.default_rng(2).permutation(200)[:150]
    whole = earlier_similarity(rows, places)
    monkeypatch.setattr(semdedup, "MEMBER_FLOATS", block)
    monkeypatch.setattr(semdedup, "SIMILARITY_FLOATS", 40)
    np.testing.assert_allclose(earlier_similarity(rows, places), whole, atol=1e-6)
    x = rows.gather(places)
    literal = [max([0.0, *(x[:i] @ x[i])]) for i in range(150)]
    np.testing.assert_allclose(whole, literal, atol=1e-6)


@pytest.mark.parametrize("limit", [("BLOCK_DOUBLES", 45), ("MATRIX_ROWS", 10)])
def test_a_cluster_read_in_parts_is_drawn_from_as_the_whole_is(limit, monkeypatch):
    rows, places = rows_of(200, 5), np.random.default_rng(2).permutation(200)[:90]
    typical = mmd.mean_kernel(rows, places, 1.0)
    picked = mmd.greedy_mmd(rows, places, typical, 30, 1.0)
    monkeypatch.setattr(mmd, *limit)
    np.testing.assert_allclose(mmd.mean_kernel(rows, places, 1.0), typical, rtol=1e-12)
    np.testing.assert_array_equal(mmd.greedy_mmd(rows, places, typical, 30, 1.0), picked)


@pytest.mark.parametrize("name", CLUSTERED)
def test_torch_chooses_nearly_the_rows_that_faiss_chooses(name):
    pool = random_pool(0, 900)
    chosen = [
        SELECTORS[name]().select(replace(pool, device=device), 180, np.random.default_rng(0))
        for device in ("cpu", "cpu:0")
    ]
    shared = np.intersect1d(chosen[0].positions, chosen[1].positions)
    assert len(shared) >= 0.98 * 180


def test_coincide_from_disk_is_coincide_from_memory(tmp_path):
    pool = random_pool(0, 1200)
    given = pool.features["coincide"]
    np.save(tmp_path / "rows.npy", given["rows"])
    mapped = {**given, "rows": np.load(tmp_path / "rows.npy", mmap_mode="r")}
    for selector in (Coincide(), Coincide(training_rows=300, projected_dim=6)):
        one = selector.select(pool, 240, np.random.default_rng(0))
        streamed = replace(pool, features={**pool.features, "coincide": mapped})
        two = selector.select(streamed, 240, np.random.default_rng(0))
        np.testing.assert_array_equal(one.positions, two.positions)
        np.testing.assert_array_equal(one.scores, two.scores)
