"""Read what a run left on disk, as numbers that the page draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from icons_repro.core.files import read_json_lines
from icons_repro.evaluation.relative import Relative
from icons_repro.report.results import RunResults
from icons_repro.report.tables import Results

INFLUENCE = "influence/"
MEAN_RANK = "mean_percentile_rank"


@dataclass(frozen=True)
class PageInputs:
    """Everything the page may show; what is missing is left out of it."""

    results: RunResults
    lines: Mapping[str, Results] = field(default_factory=dict)
    """Heading to benchmark results: "this run", "full", "random"."""
    blind: Mapping[str, float] = field(default_factory=dict)
    relatives: Mapping[str, Relative | None] = field(default_factory=dict)
    selection: Path | None = None
    """Selection directory."""
    metrics: Mapping[str, Path] = field(default_factory=dict)
    """Stage name to its `metrics.jsonl`."""
    pool: Path | None = None
    """The pool step's folder, for the browser of rows."""
    rivals: Mapping[str, Path] = field(default_factory=dict)
    """Other selections from the same pool, by name."""
    evaluations: Mapping[str, Path] = field(default_factory=dict)
    """Evaluate directories, by model as in `lines`."""
    leakage: Path | None = None
    """The leakage step's folder."""
    run: str = ""
    """How commands call the run: its folder."""
    files: Mapping[str, Path] = field(default_factory=dict)
    config_text: str = ""


def sources(selection: Path) -> list[tuple[str, float, float]]:
    """Return (source, share of pool, share of selection), most chosen first."""
    path = selection / "sources.json"
    counts = json.loads(path.read_text()) if path.is_file() else {}
    totals = {k: sum(entry[k] for entry in counts.values()) or 1 for k in ("pool", "selected")}
    rows = [
        (name, entry["pool"] / totals["pool"], entry["selected"] / totals["selected"])
        for name, entry in counts.items()
    ]
    return sorted(rows, key=lambda row: -row[2])


@dataclass(frozen=True)
class Scored:
    """The columns of `scores.parquet` that the page needs."""

    chosen: np.ndarray
    """bool `[N]`."""
    keys: np.ndarray
    """Content keys `[N]`, dtype `S32`."""
    votes: np.ndarray | None
    influence: Mapping[str, np.ndarray]
    """Task to float `[N]`."""
    score: np.ndarray | None = None
    """What the method ranks by; None, or NaN, where it does not."""
    mean_rank: np.ndarray | None = None
    """What decides among equal scores."""


def scored(selection: Path) -> Scored:
    """Read which rows were chosen, their scores and votes, and each task's influence."""
    import pyarrow.parquet as pq

    path = selection / "scores.parquet"
    names = pq.read_schema(path).names
    own = ("score", "votes", MEAN_RANK)
    wanted = [n for n in names if n in own or n.startswith(INFLUENCE)]
    table = pq.read_table(path, columns=["key", *wanted])
    chosen = np.zeros(table.num_rows, dtype=bool)
    chosen[np.load(selection / "positions.npy")] = True
    columns = {n: table[n].to_numpy(zero_copy_only=False) for n in wanted}
    return Scored(
        chosen=chosen,
        keys=table["key"].to_numpy(zero_copy_only=False).astype("S32"),
        votes=columns.pop("votes", None),
        score=columns.pop("score", None),
        mean_rank=columns.pop(MEAN_RANK, None),
        influence={name.removeprefix(INFLUENCE): values for name, values in columns.items()},
    )


def vote_counts(found: Scored) -> tuple[list[str], list[int], list[int]]:
    """Return vote labels, rows chosen and rows left for each number of votes."""
    assert found.votes is not None
    votes = np.nan_to_num(found.votes.astype(np.float64), nan=0.0).astype(np.int64)
    kinds = int(votes.max(initial=0)) + 1
    chosen = np.bincount(votes[found.chosen], minlength=kinds)
    rest = np.bincount(votes[~found.chosen], minlength=kinds)
    return [str(v) for v in range(kinds)], chosen.tolist(), rest.tolist()


def overlaps(found: Scored) -> tuple[list[str], np.ndarray]:
    """Return tasks and shares `[T, T + 1]`.

    Entry (i, j): share of task i's own top k rows (k = rows chosen) that are in task j's top k;
    the last column: share of them that was chosen. Ties at the cut go by position.
    """
    names = list(found.influence)
    k = int(found.chosen.sum())
    tops = np.zeros((len(names) + 1, len(found.chosen)), dtype=bool)
    for i, name in enumerate(names):
        values = np.nan_to_num(found.influence[name].astype(np.float64), nan=-np.inf)
        tops[i, np.argsort(-values, kind="stable")[:k]] = True
    tops[-1] = found.chosen
    shares = tops[:-1].astype(np.float32) @ tops.T.astype(np.float32) / max(k, 1)
    return names, shares


def losses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and losses of a stage's `metrics.jsonl`."""
    pairs = [(row["step"], row["loss"]) for row in read_json_lines(path) if "loss" in row]
    array = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
