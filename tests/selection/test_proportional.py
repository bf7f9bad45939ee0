"""Votes that cost: equal to literal code, proportional, deaf to excluded and unmeasured rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.influence import consensus
from icons_repro.influence.ranks import mean_percentile_rank
from icons_repro.selection.icons import Icons
from icons_repro.selection.proportional import Proportional as Selector
from icons_repro.selection.rules.base import Seen
from icons_repro.selection.rules.proportional import ROW, Proportional

RNG = np.random.default_rng(0)


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).permutation(10 * n)[:n]
    return np.array([f"{i:032x}".encode() for i in drawn], dtype="S32")


def seen_of(values: np.ndarray, approvals: np.ndarray, seed: int = 0) -> Seen:
    tasks = tuple(f"t{j}" for j in range(values.shape[1]))
    rank = mean_percentile_rank(values)
    return Seen(values, tasks, keys_of(len(values), seed), rank, approvals, None)


def drawn(
    seed: int, n: int, tasks: int, share: float, bad: float = 0.0, ties: bool = False
) -> Seen:
    """Random influence; who approves what is random too, so that any profile occurs."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, tasks))
    if ties:
        values = np.round(values)
    values[rng.random(n) < bad] = np.nan
    approvals = rng.random((n, tasks)) < share * rng.random(tasks) * 2
    return seen_of(values, approvals & ~np.isnan(values), seed)


def pool_of(values: np.ndarray, measured: np.ndarray | None = None) -> Pool:
    keys = keys_of(len(values))
    tasks = tuple(f"t{j}" for j in range(values.shape[1]))
    influence = InfluenceMatrix(values.astype(np.float32), tasks, keys)
    influence = influence if measured is None else replace(influence, measured=measured)
    plain = np.ones(len(keys), dtype=np.int64), np.ones(len(keys), dtype=bool)
    return Pool(keys, np.array(["s"] * len(keys)), *plain, {"influence": influence})


def literal(seen: Seen, k: int) -> list[int]:
    """The formula, one row at a time."""
    n, tasks = seen.values.shape
    usable = ~np.isnan(seen.values).any(axis=1)
    ranks = np.zeros((n, tasks))
    if usable.any():
        ranks[usable] = rankdata(seen.values[usable], axis=0)
    purses, free, taken = [0] * tasks, set(range(n)), []
    while len(taken) < k:
        best, chosen, payers = None, None, []
        for row in free:
            voters = [t for t in range(tasks) if seen.approvals[row, t] and purses[t] >= ROW]
            if voters:
                order = (-len(voters), -sum(ranks[row, t] for t in voters), seen.keys[row])
                if best is None or order < best:
                    best, chosen, payers = order, row, voters
        if chosen is not None:
            for t in payers:
                purses[t] -= ROW // len(payers)
            free.remove(chosen)
            taken.append(chosen)
            continue
        wants = [t for t in range(tasks) if any(seen.approvals[row, t] for row in free)]
        if not wants:
            break
        share = max(ROW, (k - len(taken)) * ROW // len(wants))
        purses = [share if t in wants else 0 for t in range(tasks)]
    return taken


@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 40), tasks=st.integers(1, 6),
    share=st.floats(0.02, 0.9), budget=st.floats(0.02, 1),
    bad=st.sampled_from([0.0, 0.3]), ties=st.booleans(),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_the_rows_and_their_order_are_those_of_literal_code(
    seed, n, tasks, share, budget, bad, ties
) -> None:
    seen, k = drawn(seed, n, tasks, share, bad, ties), max(1, int(budget * n))
    assert Proportional().choose(seen, k).tolist() == literal(seen, k)


@given(
    seed=st.integers(0, 10**6), n=st.integers(5, 200), tasks=st.integers(1, 9),
    share=st.floats(0.02, 0.9), budget=st.floats(0.02, 1),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_who_approves_its_share_of_the_budget_gets_it(seed, n, tasks, share, budget) -> None:
    seen, k = drawn(seed, n, tasks, share), max(1, int(budget * n))
    taken = Proportional().choose(seen, k)
    fair = k // tasks
    approved = seen.approvals.sum(axis=0)
    assert (seen.approvals[taken].sum(axis=0)[approved >= fair] >= fair).all()


def test_disjoint_tasks_get_equal_parts_each_its_best_rows() -> None:
    values = np.random.default_rng(1).standard_normal((60, 3))
    approvals = np.zeros((60, 3), dtype=bool)
    for task, start in enumerate((0, 20, 40)):
        approvals[start : start + 20, task] = True
    taken = Proportional().choose(seen_of(values, approvals), 12)
    for task, start in enumerate((0, 20, 40)):
        own = start + np.argsort(-values[start : start + 20, task])[:4]
        assert set(own) == {row for row in taken if start <= row < start + 20}


def test_a_task_alone_is_not_outvoted_by_six_that_agree() -> None:
    rng = np.random.default_rng(2)
    values = np.zeros((700, 7))
    values[:350, :6] = 1 + rng.random((350, 6))
    values[350:, 6] = 1 + rng.random(350)
    pool = pool_of(values)
    votes = Icons(rule="vote", percentile=80).select(pool, 70, RNG).positions
    assert (votes >= 350).sum() == 0
    fair = Selector().select(pool, 70, RNG).positions
    alone = fair[fair >= 350]
    assert 10 <= len(alone) <= 11  # the last rows, fewer than tasks, go round
    assert set(alone) == set(350 + np.argsort(-values[350:, 6])[: len(alone)])


def test_with_one_task_it_is_that_task_s_best_rows() -> None:
    values = np.random.default_rng(3).standard_normal((50, 1))
    chosen = Selector().select(pool_of(values), 10, RNG)
    assert set(chosen.positions) == set(np.argsort(-values[:, 0])[:10])


def test_it_is_the_vote_as_long_as_every_purse_lasts() -> None:
    """Tasks alike pay alike, so nobody falls silent before the last row."""
    values = np.repeat(np.random.default_rng(4).standard_normal((80, 1)), 4, axis=1)
    pool = pool_of(values)
    votes = Icons(rule="vote").select(pool, 16, RNG)
    assert set(Selector().select(pool, 16, RNG).positions) == set(votes.positions)


def test_what_nobody_approves_fills_a_large_budget_by_mean_rank_and_excluded_rows_last() -> None:
    values = np.random.default_rng(5).standard_normal((40, 2))
    values[:3] = np.nan
    pool = pool_of(values)
    rank = mean_percentile_rank(pool.features["influence"].values.astype(float))
    approved = consensus.approvals(pool.features["influence"].values.astype(float), 90).any(axis=1)
    selection = Icons(rule="proportional", percentile=90).select(pool, 30, RNG)
    chosen = selection.positions
    assert np.isin(np.flatnonzero(approved), chosen).all()
    others = np.flatnonzero(~approved & ~np.isnan(rank))
    best = others[np.lexsort([pool.keys[others], -rank[others]])[: 30 - approved.sum()]]
    assert set(chosen) == set(np.flatnonzero(approved)) | set(best)
    turns = chosen[np.argsort(-selection.scores[chosen])]
    assert turns[approved.sum() :].tolist() == best.tolist()
    assert selection.scores[turns].tolist() == [-turn for turn in range(30)]
    assert selection.columns["votes"][:3].tolist() == pytest.approx([np.nan] * 3, nan_ok=True)
    assert ((selection.columns["votes"][3:] > 0) == approved[3:]).all()
    assert not np.isin([0, 1, 2], chosen).any()
    assert Icons(rule="proportional").select(pool, 38, RNG).notes["excluded_rows_taken"] == 1


def test_rows_that_were_not_measured_have_no_vote() -> None:
    values = np.random.default_rng(6).standard_normal((50, 2))
    measured = np.arange(50) >= 25
    values[:25] += 10
    values[25:30] += 20
    icons = Icons(rule="proportional", percentile=40)
    assert set(icons.select(pool_of(values), 15, RNG).positions) > {25, 26, 27, 28, 29}
    chosen = icons.select(pool_of(values, measured), 5, RNG)
    assert chosen.positions.tolist() == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("comparison", [">", ">="])
def test_approvals_are_what_the_vote_counts(comparison) -> None:
    values = np.round(np.random.default_rng(7).standard_normal((60, 3)) * 2)
    values[5] = np.nan
    approvals = consensus.approvals(values, 80, comparison)
    there = ~np.isnan(values[:, 0])
    counted = consensus.vote(values, 80, comparison)
    assert approvals.sum(axis=1)[there].tolist() == counted[there].tolist()
    assert not approvals[5].any()


def test_the_percentile_of_the_selector_decides_who_votes() -> None:
    values = np.random.default_rng(8).standard_normal((200, 3))
    pool = pool_of(values)
    few, many = (Selector(percentile=p).select(pool, 40, RNG).positions for p in (95, 50))
    assert set(few) != set(many)
    assert set(few) == set(
        Icons(rule="proportional", percentile=95).select(pool, 40, RNG).positions
    )
