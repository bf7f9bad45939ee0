"""Read what a run left on disk, as numbers that the page draws."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json_lines
from icons_repro.core.settings import RecordPolicy
from icons_repro.evaluation.relative import Relative
from icons_repro.report.results import RunResults
from icons_repro.report.tables import Results

RowOf = Callable[[int], Mapping[str, Any] | None]
"""Pool position to the row's JSON; None for a row that did not pass the checks of the pool."""
INFLUENCE = "influence/"
GALLERY = 12
THUMBNAIL = 128


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
    row_of: RowOf | None = None
    """The pool's rows, for the gallery."""
    image_root: Path | None = None
    policy: RecordPolicy = field(default_factory=RecordPolicy)
    """What the pool's images were checked by: the gallery opens no others."""
    files: Mapping[str, Path] = field(default_factory=dict)
    config_text: str = ""


@dataclass(frozen=True)
class Sample:
    """One pool row in the gallery."""

    image: str
    """`data:` address, or empty for a text-only row."""
    question: str
    answer: str
    note: str


def rows_of(records: Path) -> RowOf | None:
    """Return a reader of the rows of `records.arrow` that passed; None without the file."""
    if not records.is_file():
        return None
    import pyarrow as pa

    with pa.memory_map(str(records)) as file:
        table = pa.ipc.open_file(file).read_all()
    rows, problems = table["json"], table["problem"]

    def row_of(position: int) -> Mapping[str, Any] | None:
        if problems[position].is_valid:
            return None
        row: Mapping[str, Any] = json.loads(rows[position].as_py())
        return row

    return row_of


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
    votes: np.ndarray | None
    influence: Mapping[str, np.ndarray]
    """Task to float `[N]`."""


def scored(selection: Path) -> Scored:
    """Read which rows were chosen, their votes, and each task's influence."""
    import pyarrow.parquet as pq

    path = selection / "scores.parquet"
    names = pq.read_schema(path).names
    wanted = [n for n in names if n == "votes" or n.startswith(INFLUENCE)]
    table = pq.read_table(path, columns=["position", *wanted])
    chosen = np.zeros(table.num_rows, dtype=bool)
    chosen[np.load(selection / "positions.npy")] = True
    columns = {n: table[n].to_numpy(zero_copy_only=False) for n in wanted}
    return Scored(
        chosen,
        columns.pop("votes", None),
        {name.removeprefix(INFLUENCE): values for name, values in columns.items()},
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


def gallery(inputs: PageInputs, found: Scored) -> tuple[list[Sample], list[Sample]]:
    """Return chosen and not-chosen rows with pictures, drawn at random with a fixed seed."""
    if inputs.row_of is None or inputs.image_root is None:
        return [], []
    rng = np.random.default_rng(0)
    picked = []
    for mask in (found.chosen, ~found.chosen):
        samples: list[Sample] = []
        for position in rng.permutation(np.flatnonzero(mask))[: 4 * GALLERY]:
            sample = _sample(inputs, found, int(position))
            if sample is not None and len(samples) < GALLERY:
                samples.append(sample)
        picked.append(samples)
    return picked[0], picked[1]


def _sample(inputs: PageInputs, found: Scored, position: int) -> Sample | None:
    """Return a gallery entry; None for a row that did not pass, or without one picture to show."""
    assert inputs.row_of is not None
    assert inputs.image_root is not None
    row = inputs.row_of(position)
    name = row.get("image") if row else None
    if row is None or not isinstance(name, str):
        return None
    try:
        image = thumbnail(inputs.image_root, name, inputs.policy)
    except DataError:  # it has changed since the pool was read
        return None
    question, answer = (turn["value"] for turn in row["conversations"][:2])
    votes = "" if found.votes is None else f"votes: {int(np.nan_to_num(found.votes[position]))}"
    return Sample(image, question.replace("<image>", "").strip(), answer, votes)


def thumbnail(root: Path, name: str, policy: RecordPolicy) -> str:
    """Return a picture as a `data:` address, at most `THUMBNAIL` pixels wide or high.

    Raises `DataError` for what training would not open either.
    """
    from icons_repro.core.pictures import find_picture, open_picture

    path = find_picture(os.path.realpath(root), name, policy.follow_symlinks)
    small = open_picture(path, name, policy.max_image_pixels)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    lossless = max(small.size) <= 64
    small.save(buffer, format="PNG" if lossless else "JPEG", quality=85)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
