"""What the browser of rows says of each row, and which rows it shows of a large pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_run import TASKS, Cache

from icons_repro.influence.ranks import percentile_ranks
from icons_repro.report.gather import Scored, scored
from icons_repro.report.samples import MOST_TEXT, marks, samples, shortened, task_votes, text_limit
from icons_repro.report.strata import rows_to_show, shares, status_of


def ranked(score: list[float], k: int, **more: object) -> Scored:
    """A choice of the k best rows."""
    values = np.array(score, dtype=float)
    keys = np.array([f"{i:032x}".encode() for i in range(len(values))])
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.lexsort([np.arange(len(values)), -values])[:k]] = True
    return Scored(chosen, keys, None, more.pop("influence", {}), values, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Cache:
    return Cache.fill(tmp_path_factory.mktemp("cache"), small_world)


@pytest.fixture(scope="module")
def selection(cache: Cache) -> Path:
    return cache.select("icons", 0.2, 0)


def test_the_order_begins_with_the_rows_that_the_selector_chose(selection: Path) -> None:
    found = scored(selection)
    status = status_of(found, None)
    assert status.order is not None
    assert sorted(status.order) == list(range(1, 301))
    assert set(np.flatnonzero(status.order <= 60)) == set(np.flatnonzero(found.chosen))


def test_a_choice_that_follows_no_order_has_none() -> None:
    found = ranked([5, 4, 3, 2, 1], 2)
    found.chosen[:] = [False, True, False, True, False]
    assert status_of(found, None).order is None


def test_rows_tied_at_the_cut_are_contested_and_no_others() -> None:
    found = ranked([3, 2, 2, 2, 1], 2)
    ties = {"threshold": 2.0, "above": 1, "tied": 3, "taken_of_tied": 1}
    assert status_of(found, ties).contested.tolist() == [False, True, True, True, False]


def test_without_a_tie_the_rows_beside_the_cut_are_contested() -> None:
    status = status_of(ranked(list(range(1000)), 200), None)
    assert status.order is not None
    assert sorted(status.order[status.contested]) == [199, 200, 201, 202]


def test_a_task_is_owed_its_fair_share_alone() -> None:
    influence = {"a": np.arange(10.0), "b": -np.arange(10.0)}
    found = ranked(list(range(10)), 4, influence=influence)
    owed = status_of(found, None).owed
    assert np.flatnonzero(owed[:, 0]).tolist() == []
    assert np.flatnonzero(owed[:, 1]).tolist() == [0, 1], "its two best rows were left"


def test_votes_by_task_add_up_to_the_votes_that_were_counted(selection: Path) -> None:
    found = scored(selection)
    votes = task_votes(found, selection)
    assert votes is not None
    assert found.votes is not None
    assert votes.sum(axis=1).tolist() == found.votes.tolist()
    others = replace(found, votes=found.votes + 1)
    assert task_votes(others, selection) is None, "votes that do not add up are not told by task"


def test_columns_agree_with_the_selection(cache: Cache, selection: Path) -> None:
    found = scored(selection)
    random = np.load(cache.select("random", 0.2, 1) / "positions.npy")
    pool = cache.root / "pool" / "p0"
    made = samples(found, selection, pool, {"random": random}, method="icons", run="r; rm -r x")
    data = made.data
    assert data["tasks"] == list(TASKS)
    assert data["run"] == "'r; rm -r x'", "a command that is copied runs nothing else"
    assert data["key"] == [key.decode() for key in cache.table.keys.tolist()]
    flags = np.array(data["flags"])
    assert np.flatnonzero(flags & 1).tolist() == np.load(selection / "positions.npy").tolist()
    assert np.flatnonzero(data["by"]).tolist() == random.tolist()
    ranks = np.array(data["ranks"]).reshape(300, 3)
    exact = percentile_ranks(np.column_stack(list(found.influence.values())))
    np.testing.assert_allclose(ranks / 1000, exact, atol=5.1e-4)
    for place in (0, 17, 299):
        row = cache.table[place]
        assert data["turns"][place] == [turn["value"] for turn in row.conversations]
        assert data["sources"][data["source"][place]] == row.source
        assert data["name"][place] == (row.images[0] if row.images else "")


def test_a_pool_of_the_papers_size_is_sampled_by_strata() -> None:
    rng = np.random.default_rng(0)
    n, k = 200_000, 40_000
    influence = {task: rng.random(n) for task in "abcde"}
    found = ranked(rng.random(n).tolist(), k, influence=influence)
    status = status_of(found, None)
    elsewhere = rng.random(n) < 0.1
    shown = rows_to_show(status, elsewhere & ~found.chosen, np.ones(n, dtype=bool))
    assert len(shown.positions) == len(set(shown.positions.tolist())) == 10_000
    names = [name.split(":")[0] for name, _, _ in shown.strata]
    assert names == ["contested", "starved", "chosen", "left here, chosen by another run", "left"]
    assert sum(rows for _, rows, _ in shown.strata) == n
    assert sum(count for _, _, count in shown.strata) == 10_000
    contested = shown.strata[0]
    assert contested[1:] == (800, 800), "a small stratum is shown whole"
    again = rows_to_show(status, elsewhere & ~found.chosen, np.ones(n, dtype=bool))
    assert np.array_equal(again.positions, shown.positions)


def test_unusable_rows_are_never_shown() -> None:
    usable = np.array([True, False, True])
    shown = rows_to_show(status_of(ranked([3, 2, 1], 1), None), np.zeros(3, dtype=bool), usable)
    assert shown.positions.tolist() == [0, 2]
    assert shown.strata == ()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_shares_use_all_places_and_exceed_no_group(sizes: list[int], most: int) -> None:
    counts = shares(sizes, most)
    assert all(0 <= c <= size for c, size in zip(counts, sizes, strict=True))
    assert sum(counts) == min(most, sum(sizes))


def test_long_conversations_are_cut_so_that_all_rows_fit() -> None:
    assert text_limit([["a" * 500]] * 100) == MOST_TEXT
    limit = text_limit([["a" * 5000]] * 10_000)
    assert limit * 10_000 <= 9_000_000
    assert shortened(["ab", "cdef", "gh"], 4) == ["ab", "c…"]
    assert shortened(["ab", "cd"], 4) == ["ab", "cd"]


def test_marks_are_one_bit_for_each_run() -> None:
    by = marks({"a": np.array([0, 2]), "b": np.array([2])}, 4)
    assert by.tolist() == [1, 0, 3, 0]
