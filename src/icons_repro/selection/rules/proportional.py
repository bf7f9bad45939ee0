"""Proportional votes: a vote costs, and every task has the same purse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.influence.ranks import average_ranks, by_task, over_rows, usable_count, usable_rows
from icons_repro.selection.base import preference_order
from icons_repro.selection.rules.base import Rule, Seen

ROW = 2**32
"""What a row costs. Purses and payments are whole numbers, so no sum depends on an order."""


@dataclass(frozen=True)
class Proportional(Rule):
    """Take the rows with most votes of tasks that can still pay; voters share a row's price.

    Formula: every task that approves a row starts with b_t = k / T; row after row, take the free
    row with most approvals of tasks with b_t >= 1, which each pay 1 / (their number). Ties: the
    sum of these tasks' ranks of it, then content key. When no such task approves a free row, what
    is left of k is shared out anew among the tasks that approve one, at least 1 each. Approvals
    are the vote's, 1[I_t(i) > tau_t]. Source: ours, after the method of equal shares (Peters and
    Skowron 2020, arXiv:1911.11747); there a task may also pay with the last part of a row's
    price. So any task that approves k / T rows gets floor(k / T) of them. Unapproved rows come
    last. Complexity: O(T) passes over `[N, T]`, each with a sort of k.
    """

    name: ClassVar[str] = "proportional"
    needs_votes: ClassVar[bool] = True

    def choose(self, seen: Seen, k: int) -> np.ndarray:
        """Positions in the order in which they are taken."""
        assert seen.approvals is not None
        worth = vote_worth(seen.values, seen.approvals)
        purses = np.zeros(worth.shape[1], dtype=np.int64)
        taken = [np.zeros(0, dtype=np.int64)]
        left = k
        while left:
            bought = _purchase(worth, purses, seen.keys, left)
            if len(bought):
                worth[bought] = 0.0
                taken.append(bought)
                left -= len(bought)
                continue
            wants = worth.any(axis=0)
            if not wants.any():
                break
            purses = np.where(wants, max(ROW, left * ROW // int(wants.sum())), 0)
        return np.concatenate(taken)


def vote_worth(values: np.ndarray, approvals: np.ndarray) -> np.ndarray:
    """What each vote says, float64 `[N, T]`: 0 where a task does not approve, else M + its rank.

    M is more than any sum of ranks, so that a row's sum goes by its votes first, then by the ranks
    of those that cast them. All are multiples of 1/2, so the sums are exact.
    """
    n = usable_count(values)
    tasks = values.shape[1]
    ranks = by_task(average_ranks, usable_rows(values)[:n])
    most = float(n * tasks + 1)
    columns = [over_rows(values, most + column) for column in ranks]
    return np.where(approvals, np.column_stack(columns), 0.0)


def _purchase(worth: np.ndarray, purses: np.ndarray, keys: np.ndarray, k: int) -> np.ndarray:
    """Return the rows that go before a purse is empty, first to last, at most `k`; take the price.

    `purses` `[T]` is changed in place. No row where nobody who can pay approves a free one.
    """
    solvent = purses >= ROW
    scores = worth @ solvent
    wanted = int((scores > 0).sum())
    if not wanted:
        return np.zeros(0, dtype=np.int64)
    order = preference_order(scores, None, keys, min(k, wanted))
    voters = (worth[order] > 0) & solvent
    paid = np.cumsum(np.where(voters, (ROW // voters.sum(axis=1))[:, None], 0), axis=0)
    empty = (solvent & (purses - paid < ROW)).any(axis=1)
    count = int(np.argmax(empty)) + 1 if empty.any() else len(order)
    purses -= paid[count - 1]
    return order[:count]
