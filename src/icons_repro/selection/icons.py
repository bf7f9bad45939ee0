"""ICONS: influence consensus over target tasks, with every aggregation rule of its ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np

from icons_repro.core.bounds import Fraction, Name, Names, Within
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.names import nearest
from icons_repro.core.types import InfluenceMatrix, Pool, Selection
from icons_repro.influence import consensus
from icons_repro.influence.ranks import by_task, mean_percentile_rank
from icons_repro.selection import streamed
from icons_repro.selection.base import (
    BudgetedSelector,
    Ranking,
    check_k,
    feature,
    preference_order,
    ranked_selection,
    top_k,
)
from icons_repro.selection.rules.base import Rule, Seen, build_rule
from icons_repro.selection.rules.named import NAMED, rule_class

if TYPE_CHECKING:
    from icons_repro.influence.rows.blocks import ByRow

Aggregation = Literal[
    "vote",
    "mean",
    "max",
    "rank",
    "norm_minmax",
    "norm_zscore",
    "direct_merge",
    "round_robin",
    "vote_with_floor",
]
RULES = get_args(Aggregation)
"""Rules by task: arithmetic on `[N, T]`. Those that are classes are in `rules/named.py`."""


@dataclass(frozen=True)
class Icons(BudgetedSelector):
    """Take the rows that most target tasks would take.

    Formula (rule=vote): v_i = sum_k 1[I_k(i) > tau_k], tau_k the `percentile`-th percentile of
    task k's influence; take the k rows with most votes. Direction: high. Ties: mean percentile
    rank over tasks, then content key. direct_merge is influence on the union of all validation
    rows. Source: princetonvisualai/icons, icons/generalist.py:47-77 (MME: maximum over sub-tasks)
    and 118-135 (the vote); the other rules are natural readings of the paper's ablation, whose
    code is not public. Complexity: O(N T) for the vote, O(N T log N) for ranks,
    N x T doubles of memory. Rows with a NaN influence are excluded and counted; text-only rows
    have gradients like any other row.
    """

    name: ClassVar[str] = "icons"
    fixed_size: ClassVar[bool] = False

    rule: str = "vote"
    """One of `RULES`, a rule of `rules/named.py`, or a rule of your own as module.Class."""
    percentile: Annotated[float, Within(0, 100)] | Literal["budget"] = 80.0
    """Vote threshold. "budget" ties it to the share that is kept, as the released flag does."""
    comparison: consensus.Comparison = ">"
    calibration: consensus.Calibration = "none"
    """Scale of the tasks before mean, max or direct_merge."""
    tie_rule: Literal["mean_rank", "key", "numpy_argsort"] = "mean_rank"
    """`numpy_argsort` repeats the released `argsort(votes)[-k:]`: its ties depend on row order and
    on the processor."""
    subtasks: consensus.Subtasks = "max"
    """What becomes of columns `TASK/SUBTASK`, such as MME's."""
    tasks: Names | None = None
    """Target tasks that take part; None is all of them, one makes a specialist."""
    floor: Fraction = 0.05
    """vote_with_floor: share of its own specialist's choice that every task keeps."""
    influence: Name = "influence"
    """Which influence artifact to read; "influence_as_released" is the released code's."""
    leave_out: Sequence[str] = ()
    """Sub-tasks `TASK/SUBTASK` that take no part."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of a rule that is a class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._rule is None and self.rule not in RULES:
            known = (*RULES, *NAMED)
            raise ConfigError(
                f"selector.rule={self.rule!r}: choose one of {', '.join(known)}, or module.Class"
                f"{nearest(self.rule, known)}"
            )
        if self._rule is None and self.options:
            raise ConfigError(f"selector.options: rule={self.rule} has none of its own.")
        if self.percentile != "budget":
            consensus.check_percentile(self.percentile)

    @cached_property
    def _rule(self) -> Rule | None:
        """The rule, where it is a class."""
        cls = rule_class(self.rule)
        return None if cls is None else build_rule(cls, self.options)

    @property
    def requires(self) -> frozenset[str]:
        """The influence matrix; some rules also need the sizes of the validation sets, or rows."""
        extra = {"validation_counts"} if self.rule == "direct_merge" else set()
        if self._rule is not None and self._rule.needs_rows:
            extra.add(f"{self.influence}_rows")
        return frozenset({self.influence} | extra)

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Take `k` rows by the rule; the generator is not used."""
        check_k(k, len(pool))
        values, tasks = self._values(pool, self.subtasks)
        mean_rank = mean_percentile_rank(values)
        columns = {f"influence/{t}": values[:, j] for j, t in enumerate(tasks)}
        columns["mean_percentile_rank"] = mean_rank
        if self.rule in ("vote", "vote_with_floor"):
            columns["votes"] = self._votes(pool, values, self._percentile(k, pool))
        specialists = list(by_task(lambda v: top_k(v, None, pool.keys, k)[0], values))
        notes = {"rule": self.rule, "tasks": list(tasks)}
        secondary = mean_rank if self.tie_rule == "mean_rank" else None
        if self._rule is not None:
            approvals = self._approvals(pool, values, k) if self._rule.needs_votes else None
            if approvals is not None:
                columns["votes"] = np.where(np.isnan(mean_rank), np.nan, approvals.sum(axis=1))
            rows = self._rows(pool, self._rule)
            seen = Seen(values, tasks, pool.keys, mean_rank, approvals, rows)
            chosen = by_rule(pool, self._rule, seen, k, columns, notes)
        elif self.rule == "round_robin":
            chosen = self._round_robin(pool, values, k, columns, notes)
        elif self.rule == "vote_with_floor":
            order = preference_order(columns["votes"], secondary, pool.keys, len(pool))
            taken = consensus.vote_with_floor(order, specialists, k, self.floor)
            chosen = Selection(np.sort(taken), columns["votes"], columns, None, notes)
        else:
            primary = columns["votes"] if self.rule == "vote" else self._score(pool, values)
            chosen = ranked_selection(pool, Ranking(primary, secondary, columns, notes), k)
            if self.tie_rule == "numpy_argsort":
                chosen = _released_ties(chosen, primary, k)
        return _with_coverage(chosen, values, tasks, specialists, self._measured(pool))

    def _votes(self, pool: Pool, values: np.ndarray, percentile: float) -> np.ndarray:
        """Each row's votes `[N]`; a large matrix is read in blocks, to the same bits."""
        matrix: InfluenceMatrix = feature(pool, self.influence)
        if len(pool) < streamed.LARGE and not isinstance(matrix.values, np.memmap):
            votes = consensus.vote(values, percentile, self.comparison)
        else:
            picked = consensus.columns_of(matrix.tasks, self.tasks, self.leave_out)
            votes = streamed.matrix_votes(
                matrix, picked, self.subtasks, percentile, self.comparison
            )
        there = matrix.measured
        return votes if there is None else np.where(there, votes, votes * 0.0)

    def _approvals(self, pool: Pool, values: np.ndarray, k: int) -> np.ndarray:
        """Who votes for what, bool `[N, T]`."""
        passed = consensus.approvals(values, self._percentile(k, pool), self.comparison)
        there = self._measured(pool)
        return passed if there is None else passed & there[:, None]

    def _measured(self, pool: Pool) -> np.ndarray | None:
        matrix: InfluenceMatrix = feature(pool, self.influence)
        return matrix.measured

    def _percentile(self, k: int, pool: Pool) -> float:
        if self.percentile == "budget":
            return 100.0 * (1.0 - k / len(pool))
        return float(self.percentile)

    def _values(
        self, pool: Pool, subtasks: consensus.Subtasks
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        return task_influence(pool, self.tasks, subtasks, self.influence, self.leave_out)

    def _rows(self, pool: Pool, rule: Rule) -> ByRow | None:
        if not rule.needs_rows:
            return None
        rows: ByRow = feature(pool, f"{self.influence}_rows")
        return rows.of_tasks(self.tasks, self.leave_out)

    def _score(self, pool: Pool, values: np.ndarray) -> np.ndarray:
        """The score of a rule that ranks rows by arithmetic on influence: `[N]`."""
        if self.rule == "rank":
            return consensus.rank(values)
        if self.rule in ("norm_minmax", "norm_zscore"):
            return consensus.norm(values, "minmax" if self.rule == "norm_minmax" else "zscore")
        if self.rule == "direct_merge":
            values, columns = self._values(pool, "separate")
            scored = feature(pool, self.influence).tasks
            counts = consensus.column_counts(feature(pool, "validation_counts"), columns, scored)
            values = consensus.calibrate(values, self.calibration)
            return consensus.direct_merge(values, columns, counts)
        values = consensus.calibrate(values, self.calibration)
        if self.rule == "mean":
            return consensus.mean(values)
        return consensus.maximum(values)

    def _round_robin(
        self,
        pool: Pool,
        values: np.ndarray,
        k: int,
        columns: dict[str, np.ndarray],
        notes: dict[str, Any],
    ) -> Selection:
        orders = [preference_order(v, None, pool.keys, k) for v in values.T]
        turn = np.full(len(pool), np.nan)
        taken = consensus.round_robin(orders, k)
        turn[taken] = -np.arange(k, dtype=np.float64)
        return Selection(np.sort(taken), turn, columns, None, notes)


def by_rule(
    pool: Pool,
    rule: Rule,
    seen: Seen,
    k: int,
    columns: Mapping[str, np.ndarray],
    notes: Mapping[str, Any],
) -> Selection:
    """Let a rule that is a class choose; complete what it gives to k rows."""
    found = rule.choose(seen, k)
    if isinstance(found, Ranking):
        told = Ranking(
            found.primary, found.secondary, {**columns, **found.columns}, {**notes, **found.notes}
        )
        return ranked_selection(pool, told, k)
    turn = np.full(len(pool), np.nan)
    turn[found] = -np.arange(len(found), dtype=np.float64)
    taken = preference_order(turn, seen.mean_rank, pool.keys, k)
    turn[taken] = np.where(np.isnan(seen.mean_rank[taken]), np.nan, -np.arange(k, dtype=np.float64))
    return Selection(np.sort(taken), turn, dict(columns), None, dict(notes))


def task_influence(
    pool: Pool,
    tasks: Sequence[str] | None,
    subtasks: consensus.Subtasks,
    name: str = "influence",
    leave_out: Sequence[str] = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Influence `[N, T]` in float64 with excluded rows all NaN, and its task names.

    Raises DataError unless the matrix has this pool's rows in this pool's order.
    """
    influence: InfluenceMatrix = feature(pool, name)
    if not np.array_equal(influence.keys, pool.keys):
        raise DataError(
            f"the {name} matrix has other rows than the pool ({len(influence.keys)} against "
            f"{len(pool)}, or another order); it was made from another pool: rerun stages=[score]"
        )
    picked = consensus.pick_tasks(consensus.leave_out(influence, leave_out), tasks)
    values = consensus.usable_values(picked.values, picked.tasks)
    return consensus.merge_subtasks(values, picked.tasks, subtasks)


def _released_ties(chosen: Selection, votes: np.ndarray, k: int) -> Selection:
    """Replace the rows by `argsort(votes)[-k:]`, numpy's default unstable sort."""
    ranked = np.where(np.isfinite(votes), votes, -np.inf)
    if float(ranked.max(initial=0.0)).is_integer() and np.isfinite(ranked).all():
        ranked = ranked.astype(np.int64)
    positions = np.sort(np.argsort(ranked)[-k:]).astype(np.int64)
    return Selection(positions, chosen.scores, chosen.columns, chosen.ties, chosen.notes)


def _with_coverage(
    chosen: Selection,
    values: np.ndarray,
    tasks: Sequence[str],
    specialists: Sequence[np.ndarray],
    measured: np.ndarray | None,
) -> Selection:
    """Add each task's coverage: the share of its own specialist's k rows that was taken."""
    taken = np.zeros(len(values), dtype=bool)
    taken[chosen.positions] = True
    excluded = np.isnan(values).any(axis=1)
    notes = dict(chosen.notes)
    notes["coverage"] = {
        task: float(taken[own].mean()) for task, own in zip(tasks, specialists, strict=True)
    }
    notes["excluded_rows"] = int(excluded.sum())
    notes["excluded_rows_taken"] = int((excluded & taken).sum())
    if measured is not None:
        notes["unmeasured_rows"] = int((~measured & ~excluded).sum())
        notes["unmeasured_rows_taken"] = int((~measured & ~excluded & taken).sum())
    return Selection(chosen.positions, chosen.scores, chosen.columns, chosen.ties, notes)
