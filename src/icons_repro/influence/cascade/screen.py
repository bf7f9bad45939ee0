"""Which rows come through a cascade, and what becomes of the others: arithmetic on `[N, T]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from icons_repro.influence.consensus import merge_subtasks, usable_values
from icons_repro.influence.ranks import by_task, percentile_ranks

GAP = 1024
"""The rows below begin this part of the measured values' range, or size, below the least."""


def by_whole_task(values: np.ndarray, tasks: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return influence as the vote reads it: float64 `[N, T]`, sub-tasks by their maximum."""
    return merge_subtasks(usable_values(values, tasks), tasks, "max")


def came_through(
    values: np.ndarray, tasks: Sequence[str], keys: np.ndarray, share: float
) -> np.ndarray:
    """Return which rows are among the best `share` of some task: bool `[N]`.

    Of the rows with a score, `ceil(share x rows)` for each task; equal scores go by content key. A
    row without a score comes through: nothing speaks against it.
    """
    merged, _ = by_whole_task(values, tasks)
    scored = np.flatnonzero(~np.isnan(merged).any(axis=1))
    count = math.ceil(Fraction(str(share)) * len(scored))
    through = np.ones(len(values), dtype=bool)
    through[scored] = False
    own = np.asfortranarray(merged[scored])
    for best in by_task(lambda column: _best(column, keys[scored], count), own):
        through[scored[best]] = True
    return through


def _best(column: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest; of equal ones those of the lowest keys."""
    if count == len(column):
        return np.arange(count)
    cut = np.partition(column, len(column) - count)[len(column) - count]
    above, tied = np.flatnonzero(column > cut), np.flatnonzero(column == cut)
    by_key = tied[np.argsort(keys[tied], kind="stable")]
    return np.concatenate([above, by_key[: count - len(above)]])


def below(
    measured: np.ndarray, tasks: Sequence[str], values: np.ndarray, known: Sequence[str]
) -> np.ndarray:
    """Return values for rows that were not measured, each below all that were: float32 `[N, T]`.

    They keep the order that the cheap source gives them, so that a budget beyond the measured rows
    goes to the better of them.

    Args:
        measured: influence `[M, T]` of the rows that were; NaN where it could not be taken.
        tasks: its columns.
        values: the cheap source's influence `[N, T']` of every row.
        known: its columns.
    """
    merged, whole = by_whole_task(values, known)
    ranks = percentile_ranks(merged)
    order = [whole.index(task.split("/", 1)[0]) for task in tasks]
    low, high = np.nanmin(measured, axis=0), np.nanmax(measured, axis=0)
    gap = np.maximum.reduce([high - low, np.abs(low), np.full(len(low), 1e-30)]) / GAP
    return (low - gap * (2 - ranks[:, order])).astype(np.float32)
