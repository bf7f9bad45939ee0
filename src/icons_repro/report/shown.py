"""What loggers with tables and lineage are shown of a run, beside its curves and numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from icons_repro.config.run import RunConfig
from icons_repro.core.cache import Cache
from icons_repro.core.errors import DataError
from icons_repro.core.pictures import find_picture, open_picture
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Step
from icons_repro.report.lines import Line
from icons_repro.report.tables import Results
from icons_repro.tracking import About, Product, Sheet, Tracker, mirrors

EACH = 6
"""Rows shown of each kind."""
SIDE = 128
"""Pixels of a thumbnail's longer side."""
KINDS = ("top", "just in", "just out", "bottom")
JOB_TYPES = ("evaluate", "finetune", "select", "pretrain")
"""The last of a run's stages says what kind of job it is."""
REFERENCES = "references"
"""Folder of the references' runs, beside those of the experiments."""
DONE = "shown"
"""Names the loggers that have been shown a reference's curve."""


def about(config: RunConfig, folder: Path, sweep: str = "") -> About:
    """Return what loggers are told of a run."""
    names = config.names
    worked = (stage for stage in JOB_TYPES if stage in config.stages)
    return About(
        folder=folder,
        name=f"{names.selector}-b{config.budget:g}-s{config.seed}",
        group="/".join(filter(None, (names.setup, names.experiment, sweep))),
        config=json.loads(json.dumps(config, default=vars)),
        job_type=next(worked, "prepare"),
        tags=(names.setup, f"{config.scale} scale", names.selector, f"{100 * config.budget:g}%"),
        runs=Path(config.paths.output) / "runs",
    )


def show_reference(
    line: Line, scores: Results, config: RunConfig, cache: Cache, sweep: str
) -> None:
    """Show a reference's curve and scores once to each logger, whichever run comes first."""
    adapter = line.adapter
    name = f"{line.name}-s{config.seed}"
    runs = Path(config.paths.output) / "runs" / config.names.setup
    folder = runs / REFERENCES / f"{name}-{adapter.fingerprint}"
    loggers = set(mirrors.chosen(config.logger))
    seen = set((folder / DONE).read_text().split()) if (folder / DONE).is_file() else set()
    if loggers <= seen:
        return
    whose = about(config, folder, sweep)
    tags = (*whose.tags[:2], line.name)
    own = replace(whose, name=name, job_type="reference", tags=tags)
    with Tracker(own, config.logger) as tracker:
        tracker.replay("finetune", cache.path(adapter) / "metrics.jsonl")
        tracker.summary({"benchmarks": scores})
    (folder / DONE).write_text(" ".join(sorted(loggers | seen)) + "\n")


def score_sheet(lines: Mapping[str, Results], blind: Mapping[str, float]) -> Sheet:
    """Return the end table: a row for each benchmark, a column for each model."""
    names = list(dict.fromkeys(name for results in lines.values() for name in results))
    rows = [
        [name, blind.get(name), *(results.get(name, {}).get("score") for results in lines.values())]
        for name in names
    ]
    return Sheet(("benchmark", "blind", *lines), rows)


def extremes(selection: Path, each: int = EACH) -> Iterator[tuple[str, int, float]]:
    """Yield (kind, position, score): the best, those on both sides of the cut, the last.

    Rows without a score, as of a random draw, are not among them.
    """
    scores = pq.read_table(selection / "scores.parquet", columns=["score"])["score"].to_numpy()
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.load(selection / "positions.npy")] = True
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    order = order[np.isfinite(scores[order])]
    taken, left = order[chosen[order]], order[~chosen[order]]
    parts = (taken[:each], taken[-each:], left[:each], left[-each:])
    for kind, positions in zip(KINDS, parts, strict=True):
        yield from ((kind, int(i), float(scores[i])) for i in positions)


def selection_sheet(selection: Path, pool: Path) -> Sheet:
    """Return the extremes of a selection with their pictures and first turns."""
    from icons_repro.data.records import RecordTable

    table = RecordTable(pool / "records.arrow")
    rows = []
    for kind, position, score in extremes(selection):
        if not table.usable[position]:
            continue
        row = table[position].raw
        question, answer = (turn["value"] for turn in row["conversations"][:2])
        picture = _picture(row.get("image"), pool / "images", table.policy)
        rows.append([kind, position, score, picture, question, answer])
    return Sheet(("kind", "position", "score", "image", "question", "answer"), rows)


def _picture(name: Any, images: Path, policy: RecordPolicy) -> Any:
    """Return a thumbnail; None for a row without one picture, or whose picture has changed."""
    if not isinstance(name, str):
        return None
    try:
        path = find_picture(os.path.realpath(images), name, policy.follow_symlinks)
        picture = open_picture(path, name, policy.max_image_pixels)
    except DataError:
        return None
    picture.thumbnail((SIDE, SIDE))
    return picture


def products(steps: list[Step], cache: Cache) -> list[Product]:
    """Return the finished steps as what a lineage is made of."""
    found = []
    for step in steps:
        if cache.is_ready(step):
            manifest = cache.manifest(step)
            about = {k: manifest.get(k) for k in ("step", "label", "config", "inputs", "counts")}
            name = f"{step.stage}-{step.fingerprint}"
            found.append(Product(name, step.stage, cache.path(step), about))
    return found
