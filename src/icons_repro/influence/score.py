"""Influence of every pool row on every target task, from one pass over the training store.

For row i and task k with validation rows V_k (docs/methods.md#influence):

    I_k(i) = mean over j in V_k of <g_i, v_j> = <g_i, mean over j of v_j>

The inner product is linear, so the N x |V_k| matrix of the released code is never formed: one mean
vector a task is enough. All rows are normalised, so the entries are mean cosines.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.gradients.store import GradientStore, require_same
from icons_repro.influence.consensus import merge_subtasks
from icons_repro.influence.stream import multiply, one_torch_thread

log = logging.getLogger(__name__)

COMPARABLE = ("model", "adapter", "projection")
"""Identities that a training and a validation store must share; their directions may differ."""

Reduce = Literal["max", "mean"]


@dataclass(frozen=True)
class TaskVectors:
    """The mean validation row of each task, or of each of its sub-tasks."""

    names: tuple[str, ...]
    """`TASK` or `TASK/SUBTASK`."""
    vectors: torch.Tensor
    """float32 `[T, d]`."""


def score(
    train: GradientStore | Path | str,
    validation: Mapping[str, GradientStore | Path | str],
    *,
    subtasks: Mapping[str, Sequence[str]] | None = None,
    reduce: Reduce | None = "mean",
    normalise: bool = True,
    raw_validation: Collection[str] = (),
    keys: np.ndarray | None = None,
    threads: int = 2,
    block_rows: int = 256,
) -> InfluenceMatrix:
    """Score every row of `train` on every task, reading the training store once.

    Args:
        train: the pool's store, one row per pool position.
        validation: each target task's store, by task name.
        subtasks: for some tasks, the sub-task of each validation row (MME's thirteen).
        reduce: how a task's sub-task scores become one: `mean`, `max` (LESS; the released code for
            MME), or None to keep the columns `TASK/SUBTASK` for `reduce_subtasks` later.
        normalise: False gives every row, training and validation, its length back (plain inner
            products of projected directions).
        raw_validation: tasks whose validation rows alone get their lengths back: `{"mme"}` is what
            the released code does (princetonvisualai/icons, scripts/3_specialist.sh:100).
        keys: the pool's content keys `[N]`; the store must hold exactly these, in this order.
        threads: worker threads; each reads, converts and multiplies.
        block_rows: rows of one read.

    Returns:
        float32 `[N, T]`, a row of NaN where the training row holds no gradient.

    Raises:
        DataError: stores of different model, adapter, projection or keys, or a task without rows.
    """
    store = train if isinstance(train, GradientStore) else GradientStore.open(train)
    stores = {
        task: s if isinstance(s, GradientStore) else GradientStore.open(s)
        for task, s in validation.items()
    }
    for task, other in stores.items():
        names = f"training store {store.folder} and validation store {other.folder} ({task})"
        require_same(COMPARABLE, store, other, names)
    if keys is not None:
        require_keys(store, keys)
    raw = set(stores) if not normalise else set(raw_validation)
    with one_torch_thread():
        targets = task_vectors(stores, subtasks or {}, raw)
    values = multiply(store, targets.vectors, threads=threads, block_rows=block_rows)
    if not normalise:
        values *= store.norms[:, None]
    values[~store.ok] = np.nan
    matrix = InfluenceMatrix(values, targets.names, store.keys)
    _require_finite(matrix, store.ok)
    return matrix if reduce is None else reduce_subtasks(matrix, reduce)


def task_vectors(
    stores: Mapping[str, GradientStore],
    subtasks: Mapping[str, Sequence[str]],
    raw: Collection[str] = (),
) -> TaskVectors:
    """Return the mean row of each task or sub-task; excluded validation rows do not count.

    Args:
        stores: each task's store.
        subtasks: the sub-task of each validation row, for tasks that have them.
        raw: tasks whose rows get their lengths back before the mean.

    Raises:
        DataError: a task or sub-task has no usable row, or labels do not fit the rows.
    """
    names, vectors = [], []
    for task, store in stores.items():
        labels = np.asarray(subtasks[task]) if task in subtasks else np.full(len(store), "")
        if len(labels) != len(store):
            raise DataError(f"{task}: {len(labels)} sub-task labels for {len(store)} rows")
        weights = []
        for label in dict.fromkeys(labels.tolist()):
            name = f"{task}/{label}" if label else task
            chosen = store.ok & (labels == label)
            if not chosen.any():
                raise DataError(f"{store.folder}: {name} has no usable validation row")
            names.append(name)
            lengths = store.norms if task in raw else 1.0
            weights.append((chosen * lengths / chosen.sum()).astype(np.float32))
        vectors.append(torch.from_numpy(np.stack(weights)) @ store.read())
    if not names:
        raise DataError("no validation stores to score against")
    return TaskVectors(tuple(names), torch.cat(vectors))


def reduce_subtasks(matrix: InfluenceMatrix, how: Reduce = "mean") -> InfluenceMatrix:
    """Reduce columns `TASK/SUBTASK` to one column a task; other columns stay as they are."""
    if how not in ("max", "mean"):
        raise ConfigError(f"reduce={how!r}: choose max or mean")
    values, tasks = merge_subtasks(matrix.values, matrix.tasks, how)
    return InfluenceMatrix(values.astype(np.float32, copy=False), tasks, matrix.keys)


def weighted_sum(matrices: Sequence[tuple[float, InfluenceMatrix]]) -> InfluenceMatrix:
    """Sum influence over checkpoints, weights rescaled to sum 1 (LESS, matching.py:45-47).

        Inf(z, z') = sum over c of w_c cos(g_c(z), g_c(z')),    w_c = mean learning rate of epoch c

    Sub-tasks are reduced after this sum, not before. A row that is NaN anywhere is NaN.

    Raises:
        DataError: no matrices, weights that are not positive, or other tasks or keys.
    """
    if not matrices or any(weight <= 0 for weight, _ in matrices):
        raise DataError("checkpoints need at least one influence matrix, each of positive weight")
    first = matrices[0][1]
    for number, (_, matrix) in enumerate(matrices):
        if matrix.tasks != first.tasks or not np.array_equal(matrix.keys, first.keys):
            raise DataError(f"checkpoint {number}: other tasks or keys than the first checkpoint's")
    total = sum(weight for weight, _ in matrices)
    values = sum(matrix.values.astype(np.float64) * (weight / total) for weight, matrix in matrices)
    return InfluenceMatrix(np.asarray(values, dtype=np.float32), first.tasks, first.keys)


def require_keys(store: GradientStore, keys: np.ndarray) -> None:
    """Check that a store holds exactly these records in this order.

    Raises:
        DataError: names the first position that differs.
    """
    if len(keys) != len(store):
        raise DataError(f"{store.folder}: {len(store)} rows; the pool has {len(keys)}")
    wrong = np.flatnonzero(store.keys != keys)
    if len(wrong):
        i = int(wrong[0])
        raise DataError(
            f"{store.folder}: row {i} is record {store.keys[i].decode()}, the pool's is "
            f"{keys[i].decode()} ({len(wrong)} rows differ). Extract again for this pool."
        )


def _require_finite(matrix: InfluenceMatrix, ok: np.ndarray) -> None:
    bad = np.flatnonzero(ok & ~np.isfinite(matrix.values).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} scores are not finite though their rows are marked ok, first row "
            f"{int(bad[0])}: the store is damaged. Delete it and extract again."
        )
