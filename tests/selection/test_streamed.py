"""A streamed vote is the vote in memory, bit for bit, whatever the blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selector_pools import random_pool

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.influence import consensus
from icons_repro.selection import streamed
from icons_repro.selection.icons import Icons
from icons_repro.selection.streamed import (
    StreamedVote,
    array_blocks,
    file_blocks,
    merged_blocks,
    streamed_thresholds,
    streamed_vote,
    votes_of,
)

TASKS = ("vqa", "mme/ocr", "mme/count")


def drawn(seed: int, n: int, ties: bool, dtype: str, spread: float = 1.0) -> np.ndarray:
    """Influence `[n, 3]` with excluded rows, and with ties of both zeros if asked."""
    rng = np.random.default_rng(seed)
    values = (spread * rng.standard_normal((n, 3))).astype(dtype)
    if ties:
        values = np.round(values * 2) / 2  # -0 beside 0
    values[rng.random(n) < 0.15] = np.nan
    values[rng.random((n, 3)) < 0.03] = np.inf
    values[0] = 0.25  # one row at least is usable
    return values


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    block=st.integers(1, 70),
    percentile=st.one_of(st.sampled_from([0.0, 50.0, 80.0, 100.0]), st.floats(0, 100)),
    comparison=st.sampled_from([">", ">="]),
    ties=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    spread=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    how=st.sampled_from(["max", "mean", "separate"]),
)
@settings(max_examples=60, deadline=None)
def test_thresholds_and_votes_are_those_in_memory(
    seed: int, n: int, block: int, percentile: float, comparison: str, ties: bool, dtype: str,
    spread: float, how: str,
) -> None:  # fmt: skip
    values = drawn(seed, n, ties, dtype, spread)
    whole, _ = consensus.merge_subtasks(consensus.usable_values(values, TASKS), TASKS, how)
    blocks, names = merged_blocks(array_blocks(values, block), TASKS, how)
    assert len(names) == whole.shape[1]
    tau = streamed_thresholds(blocks, percentile)
    np.testing.assert_array_equal(tau, consensus.thresholds(whole, percentile))
    votes = np.concatenate(list(votes_of(blocks, tau, comparison)))
    expected = consensus.vote(whole, percentile, comparison)
    np.testing.assert_array_equal(votes, expected)
    found = streamed_vote(blocks, percentile, comparison)
    there = expected[~np.isnan(expected)]
    assert found.counts.tolist() == [int((there == v).sum()) for v in range(len(names) + 1)]
    assert found.excluded == n - len(there)


@given(counts=st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(sum), data=st.data())
@settings(deadline=None)
def test_the_cut_is_where_the_sorted_votes_are_cut(counts: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, sum(counts)))
    votes = np.repeat(np.arange(len(counts)), counts)[::-1]
    cut, above, tied = StreamedVote(np.zeros(2), np.array(counts), 0).cut(k)
    assert cut == votes[k - 1]
    assert above == (votes > cut).sum()
    assert tied == (votes == cut).sum()
    with pytest.raises(DataError, match="cannot take"):
        StreamedVote(np.zeros(2), np.array(counts), 0).cut(sum(counts) + 1)


@pytest.mark.parametrize("how", ["max", "mean", "separate"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_large_or_mapped_matrix_chooses_the_same_rows_with_the_same_votes(
    how: str, mapped: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool = random_pool(3, 400)
    given_ = pool.features["influence"]
    icons = Icons(subtasks=how, tasks=[given_.tasks[0].split("/")[0], given_.tasks[-1]])
    expected = icons.select(pool, 80, np.random.default_rng(0))
    if mapped:
        np.save(tmp_path / "values.npy", given_.values)
        held = np.load(tmp_path / "values.npy", mmap_mode="r")
        matrix = InfluenceMatrix(held, given_.tasks, given_.keys)
        pool = replace(pool, features={**pool.features, "influence": matrix})
    else:
        monkeypatch.setattr(streamed, "LARGE", 1)
    monkeypatch.setattr(consensus, "vote", lambda *_: pytest.fail("the whole was taken"))
    found = icons.select(pool, 80, np.random.default_rng(0))
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.columns["votes"], expected.columns["votes"])


def test_a_file_is_read_in_blocks_of_its_tasks_alone(tmp_path: Path) -> None:
    values = drawn(0, 50, False, "float32")
    keys = np.array([f"{i:032x}".encode() for i in range(50)], dtype="S32")
    InfluenceMatrix(values, TASKS, keys, np.ones(50, dtype=bool)).save(tmp_path / "i.parquet")
    blocks, tasks = file_blocks(tmp_path / "i.parquet", rows=7)
    assert tasks == TASKS
    read = list(blocks())
    assert max(map(len, read)) <= 7
    np.testing.assert_array_equal(np.concatenate(read), values)


def test_memory_is_that_of_the_tables_and_of_one_block() -> None:
    import tracemalloc

    def blocks(n: int):
        def begin():
            for number in range(n):
                yield np.random.default_rng(number).standard_normal((1000, 2), dtype=np.float32)

        return begin

    peaks = []
    for n in (2, 60):
        tracemalloc.start()
        streamed_vote(blocks(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_what_has_no_percentile_is_refused() -> None:
    with pytest.raises(DataError, match="no row has a finite influence"):
        streamed_thresholds(array_blocks(np.full((5, 2), np.nan, dtype=np.float32)), 80)
    with pytest.raises(DataError, match="no row has a finite influence"):
        streamed_thresholds(array_blocks(np.zeros((0, 2), dtype=np.float32)), 80)
    with pytest.raises(ConfigError, match="percentile"):
        streamed_thresholds(array_blocks(np.zeros((5, 2), dtype=np.float32)), 101)
    mixed = [np.zeros((3, 2), dtype=np.float32), np.zeros((3, 2))]
    with pytest.raises(DataError, match="a block of float64"):
        streamed_thresholds(lambda: iter(mixed), 80)
