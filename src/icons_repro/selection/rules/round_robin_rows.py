"""Round robin over validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.influence.consensus import round_robin
from icons_repro.influence.rows.blocks import ByRow
from icons_repro.influence.rows.nearest import best_of_any, most_wanted
from icons_repro.selection.base import preference_order
from icons_repro.selection.rules.base import Rule, Seen

FIRST_DEPTH = 256


@dataclass(frozen=True)
class RoundRobinRows(Rule):
    """Tasks take turns; in a task its validation rows take turns; each takes its best free row.

    Formula: validation row j's order is A_ij descending, then content key. One task alone is the
    round robin of arXiv:2602.14696 (dcml-lab/targeted-instruction-selection,
    selection/round_robin.py:6-18) and, but for turns that RDS+ loses to rows already taken, of
    RDS+ (arXiv:2503.01807; hamishivi/automated-instruction-selection,
    minimal_multitask/get_top_influences.py, "max"). within=max is how that code joins tasks:
    s_ik = max over the task's validation rows, tasks in turn (get_top_aggregated_influences.py,
    "minmax"). Complexity: one pass, O(N V), and O(k) turns; more passes only where many
    validation rows want the same rows.
    """

    name: ClassVar[str] = "round_robin_rows"
    needs_rows: ClassVar[bool] = True

    within: Literal["turns", "max"] = "turns"

    def choose(self, seen: Seen, k: int) -> np.ndarray:
        """Positions in the order in which they are taken."""
        rows = seen.by_row
        if self.within == "max":
            best = best_of_any(rows)
            return round_robin([preference_order(b, None, seen.keys, k) for b in best.T], k)
        n, v = rows.shape
        depth = min(n, max(FIRST_DEPTH, 8 * -(-k // v)))
        while True:
            wanted = most_wanted(rows, seen.keys, depth).rows
            taken = take_turns(wanted, rows, k, whole=depth == n)
            if taken is not None:
                return taken
            depth = min(n, 4 * depth)


def take_turns(wanted: np.ndarray, rows: ByRow, k: int, whole: bool) -> np.ndarray | None:
    """Return the positions taken, first to last, at most `k`.

    `wanted` `[V, L]`: each validation row's best pool rows, -1 behind its last. None if somebody
    has read all of a list that is not `whole`.
    """
    members = [np.flatnonzero(rows.groups == group).tolist() for group in range(len(rows.tasks))]
    turn = [0] * len(members)
    at = [0] * len(wanted)
    taken: dict[int, None] = {}
    while len(taken) < min(k, rows.shape[0]):
        before = len(taken)
        for task, own in enumerate(members):
            if len(taken) == k:
                break
            queue = own[turn[task] % len(own)]
            turn[task] += 1
            row = _next_free(wanted[queue], at, queue, taken)
            if row is None and not whole:
                return None
            if row is not None and row >= 0:
                taken[row] = None
        if len(taken) == before:
            break  # only excluded rows are left
    return np.fromiter(taken, dtype=np.int64, count=len(taken))


def _next_free(order: np.ndarray, at: list[int], queue: int, taken: dict[int, None]) -> int | None:
    """Return the queue's best free row; -1 behind its last usable one, None behind the list's."""
    for place in range(at[queue], len(order)):
        row = int(order[place])
        if row < 0:
            return row
        if row not in taken:
            at[queue] = place + 1
            return row
    at[queue] = len(order)
    return None
