"""From the influence of every row on every task to one choice: the vote and its alternatives.

All functions take `values`, the influence `[N, T]` in float64, where a row that holds NaN was
excluded: it gets no vote, enters no percentile, rank, mean or spread, and its own score is NaN.
The vote is the paper's rule; the formulas of the others are natural readings of its ablation
table, whose code was not released (docs/methods.md#aggregation-rules).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import KEY_DTYPE, InfluenceMatrix
from icons_repro.influence.ranks import (
    by_task,
    percentile_ranks,
    rank_sums,
    usable_count,
    usable_rows,
)

Comparison = Literal[">", ">="]
Calibration = Literal["none", "minmax", "zscore", "rank"]
Subtasks = Literal["max", "mean", "separate"]
"""What becomes of columns `TASK/SUBTASK`: their maximum or mean, or each a task of its own."""


def usable_values(values: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
    """Return `values` as float64 with every row that holds a non-finite entry made all NaN.

    Columns are contiguous in memory, since every rule works task by task. Raises DataError when a
    task has no finite value at all: it would silence every row.
    """
    out = np.array(values, dtype=np.float64, order="F")
    finite = np.isfinite(out)
    empty = [task for j, task in enumerate(tasks) if not finite[:, j].any()]
    if empty and len(out):
        raise DataError(
            f"no row has a finite influence on {', '.join(empty)}; the validation gradients of "
            "that task are not usable: look at its store's row status and rerun stages=[extract]"
        )
    out[~finite.all(axis=1)] = np.nan
    return out


def pick_tasks(influence: InfluenceMatrix, tasks: Sequence[str] | None) -> InfluenceMatrix:
    """The columns of `tasks`, with the sub-tasks `TASK/...` of each. None keeps all.

    One task alone makes a specialist.
    """
    if tasks is None:
        return influence
    columns: list[int] = []
    for task in tasks:
        own = [j for j, t in enumerate(influence.tasks) if t == task or t.startswith(f"{task}/")]
        if not own:
            known = ", ".join(influence.tasks)
            raise ConfigError(f"selector.tasks names {task!r}, which has no influence ({known})")
        columns += [j for j in own if j not in columns]
    names = tuple(influence.tasks[j] for j in columns)
    return InfluenceMatrix(influence.values[:, columns], names, influence.keys)


def leave_out(influence: InfluenceMatrix, columns: Sequence[str]) -> InfluenceMatrix:
    """The matrix without the sub-tasks named `TASK/SUBTASK`.

    Of a task that takes no part nothing is left out. Raises ConfigError for a sub-task that its
    task lacks.
    """
    for name in columns:
        own = [task for task in influence.tasks if task.startswith(f"{name.split('/', 1)[0]}/")]
        if own and name not in own:
            raise ConfigError(f"selector.leave_out names {name!r}; known are {', '.join(own)}")
    kept = [j for j, task in enumerate(influence.tasks) if task not in columns]
    names = tuple(influence.tasks[j] for j in kept)
    return InfluenceMatrix(influence.values[:, kept], names, influence.keys)


def columns_of(
    known: Sequence[str], tasks: Sequence[str] | None, left_out: Sequence[str]
) -> tuple[str, ...]:
    """Return which of the columns `known` take part: those of `tasks`, without `left_out`."""
    empty = InfluenceMatrix(np.zeros((0, len(known))), tuple(known), np.zeros(0, KEY_DTYPE))
    return pick_tasks(leave_out(empty, left_out), tasks).tasks


def column_counts(
    counts: Mapping[str, int], columns: Sequence[str], scored: Sequence[str]
) -> dict[str, int]:
    """Validation rows behind each of `columns`; `counts` has tasks and `TASK/SUBTASK`.

    `scored` are all columns that influence has. A task's own column beside columns `TASK/SUBTASK`
    stands for the rows without a sub-task; alone, for all of the task's rows.
    """
    found = {}
    for name in columns:
        parts = [c for c in counts if c.startswith(f"{name}/")] if name in counts else []
        split = any(other.startswith(f"{name}/") for other in scored)
        if name in counts:
            found[name] = counts[name] - (sum(counts[part] for part in parts) if split else 0)
    return found


def merge_subtasks(
    values: np.ndarray, tasks: Sequence[str], how: Subtasks
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reduce columns `TASK/SUBTASK` (MME's thirteen) to one column per task, in first-seen order.

    The released code takes the maximum over sub-tasks of the means (princetonvisualai/icons,
    icons/generalist.py:73-77).
    `separate` lets every sub-task vote.
    """
    if how == "separate" or not any("/" in task for task in tasks):
        return values, tuple(tasks)
    groups: dict[str, list[int]] = {}
    for j, task in enumerate(tasks):
        groups.setdefault(task.split("/", 1)[0], []).append(j)
    reduce = np.max if how == "max" else np.mean
    merged = [reduce(values[:, columns], axis=1) for columns in groups.values()]
    return np.column_stack(merged), tuple(groups)


def calibrate(values: np.ndarray, how: Calibration) -> np.ndarray:
    """Put the tasks on one scale: `[N, T]`. A constant task becomes 0.

    minmax: (I - min) / (max - min); zscore: (I - mean) / std (population); rank: percentile rank.
    Every choice is increasing within a task, so votes do not depend on it.
    """
    if how == "none":
        return values
    if how == "rank":
        return percentile_ranks(values)
    usable = usable_rows(values)
    if how == "minmax":
        shift, scale = usable.min(axis=0), np.ptp(usable, axis=0)
    elif how == "zscore":
        ordered = np.sort(usable, axis=0)  # so that rounding does not depend on the rows' order
        shift, scale = ordered.mean(axis=0), ordered.std(axis=0)
    else:
        raise ConfigError(f"calibration={how!r}: choose none, minmax, zscore or rank")
    constant = np.ptp(usable, axis=0) == 0
    return np.where(constant, values * 0.0, (values - shift) / np.where(constant, 1.0, scale))


def check_percentile(percentile: float | str) -> None:
    """Raise `ConfigError` unless `percentile` is a number in [0, 100]."""
    if isinstance(percentile, str) or not 0 <= percentile <= 100:
        raise ConfigError(
            f"selector.percentile={percentile!r} is outside [0, 100]; a number, or 'budget'"
        )


def thresholds(values: np.ndarray, percentile: float) -> np.ndarray:
    """tau_k: the `percentile`-th percentile of each task's influence, linear: float64 `[T]`."""
    check_percentile(percentile)
    return np.array(list(by_task(lambda v: np.percentile(v, percentile), usable_rows(values))))


def approvals(
    values: np.ndarray, percentile: float = 80.0, comparison: Comparison = ">"
) -> np.ndarray:
    """1[I_k(i) > tau_k]: bool `[N, T]`; an excluded row has none. O(N T).

    The project page counts what exceeds, the code has `>=` (docs/methods.md#votes).
    """
    if comparison not in (">", ">="):
        raise ConfigError(f"selector.comparison={comparison!r}: choose '>' or '>='")
    tau = thresholds(values, percentile)
    return values > tau if comparison == ">" else values >= tau


def vote(values: np.ndarray, percentile: float = 80.0, comparison: Comparison = ">") -> np.ndarray:
    """v_i = sum_k 1[I_k(i) > tau_k]: float64 `[N]`, whole numbers 0..T."""
    passed = approvals(values, percentile, comparison)
    return np.where(np.isnan(values).any(axis=1), np.nan, passed.sum(axis=1))


def mean(values: np.ndarray) -> np.ndarray:
    """(1/K) sum_k I_k: `[N]`."""
    return values.mean(axis=1)


def maximum(values: np.ndarray) -> np.ndarray:
    """max_k I_k: `[N]`."""
    return values.max(axis=1)


def rank(values: np.ndarray) -> np.ndarray:
    """Borda: -sum_k rank_k, rank 1 = most influential, ties share their average rank: `[N]`."""
    return rank_sums(values) - values.shape[1] * (usable_count(values) + 1)


def norm(values: np.ndarray, how: Literal["minmax", "zscore"] = "minmax") -> np.ndarray:
    """sum_k (I_k - min_k) / (max_k - min_k), or the sum of z-scores: `[N]`."""
    return calibrate(values, how).sum(axis=1)


def direct_merge(
    values: np.ndarray, tasks: Sequence[str], validation_counts: Mapping[str, int]
) -> np.ndarray:
    """Influence on the union of the validation sets: sum_k |V_k| I_k / sum_k |V_k|: `[N]`.

    A column of a sub-task weighs as its own rows do, so the sum is the mean over all validation
    rows, whatever they belong to.
    """
    missing = [task for task in tasks if task not in validation_counts]
    if missing:
        raise DataError(f"no validation count for {', '.join(missing)}; direct_merge needs |V_k|")
    weights = np.array([validation_counts[task] for task in tasks], dtype=np.float64)
    if not (weights > 0).all():
        raise DataError(f"validation counts must be positive, got {dict(validation_counts)}")
    return (values * (weights / weights.sum())).sum(axis=1)


def round_robin(orders: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Tasks take turns; each takes its best row not taken yet, until there are `k`: int64 `[k]`.

    `orders[t]`: task t's rows, best first, at least `k` of them. Turns go in the order given.
    O(k T) time.
    """
    taken: dict[int, None] = {}
    queues = [iter(order.tolist()) for order in orders]
    while len(taken) < k:
        for queue in queues[: k - len(taken)]:
            choice = next((row for row in queue if row not in taken), None)
            if choice is not None:
                taken[choice] = None
    return np.fromiter(taken, dtype=np.int64, count=k)


def vote_with_floor(
    order: np.ndarray, choices: Sequence[np.ndarray], k: int, share: float
) -> np.ndarray:
    """The vote, but every task keeps at least `share` of its own specialist's choice: `[k]`.

    `order`: rows by consensus, best first; `choices[t]`: the k rows that task t alone would take.
    First each task's floor(share * k) rows with the best consensus among its own choice are
    reserved; what is left of the budget goes by consensus. Always possible for share <= 1/T;
    raises ConfigError when the reserved rows do not fit. Not in the paper. O(N T).
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"selector.floor={share} is outside [0, 1]")
    rank_of = np.empty(len(order), dtype=np.int64)
    rank_of[order] = np.arange(len(order))
    reserved = np.zeros(len(order), dtype=bool)
    for choice in choices:
        reserved[order[np.sort(rank_of[choice])[: int(share * k)]]] = True
    if reserved.sum() > k:
        raise ConfigError(
            f"selector.floor={share} reserves {reserved.sum()} rows for {len(choices)} tasks but "
            f"the budget is {k}; {1 / len(choices):.3g} always fits"
        )
    rest = order[~reserved[order]][: k - int(reserved.sum())]
    return np.concatenate([np.flatnonzero(reserved), rest]).astype(np.int64)
