"""What each source of scores says of a subset, one line of `predicted.csv`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icons_repro.core.types import InfluenceMatrix
from icons_repro.influence.consensus import merge_subtasks
from icons_repro.report.runs import SOURCE, SweepRun

FILE = "predicted.csv"


@dataclass(frozen=True)
class Predicted:
    """What one source of scores says of one subset."""

    pool: str
    source: str
    selection: str
    task: str
    sum: float


def predict(
    scored: Sequence[SweepRun], subsets: Iterable[SweepRun], old: Iterable[Predicted]
) -> list[Predicted]:
    """Sum every source's scores over every subset of its pool; excluded rows add 0."""
    found = {(p.pool, p.source, p.selection, p.task): p for p in old}
    named = {Path(r.results.selection).name: r for r in subsets}
    for run, source in zip(scored, names_of(scored), strict=True):
        matrix = InfluenceMatrix.load(run.located(str(run.results.influence)))
        values, tasks = merge_subtasks(np.nan_to_num(matrix.values), matrix.tasks, "mean")
        for name, subset in named.items():
            if subset.results.pool != run.results.pool:
                continue
            rows = np.load(subset.located(subset.results.selection) / "positions.npy")
            for task, total in zip(tasks, values[rows].sum(axis=0, dtype=float), strict=True):
                made = Predicted(str(run.results.pool), source, name, task, float(total))
                found[made.pool, source, name, task] = made
    return [found[key] for key in sorted(found)]


def names_of(scored: Sequence[SweepRun]) -> list[str]:
    """Name the sources, each with the settings in which it is not as most of them are."""
    skip = ("selector.", "selection_seed", "finetune.", f"{SOURCE}.")
    settings = [
        {k: str(v) for k, v in run.method.items() if not k.startswith(skip)} for run in scored
    ]
    usual = {
        key: Counter(own.get(key) for own in settings).most_common(1)[0][0]
        for key in sorted({key for own in settings for key in own} - {SOURCE})
    }
    return [
        ", ".join(
            [
                own.get(SOURCE, "gradients"),
                *(f"{key}={own.get(key)}" for key in usual if own.get(key) != usual[key]),
            ]
        )
        for own in settings
    ]
