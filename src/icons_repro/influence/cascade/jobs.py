"""What the steps of a cascade do."""

from __future__ import annotations

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json
from icons_repro.core.step import Counts
from icons_repro.core.types import InfluenceMatrix
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.data.row_copies import copy_rows
from icons_repro.data.stage import link
from icons_repro.influence.cascade.screen import below, came_through
from icons_repro.influence.cascade.stage import Candidates, CascadedInfluence, CascadedRows
from icons_repro.influence.jobs import MATRIX, save
from icons_repro.influence.rows.files import COLUMNS, TermFiles, write_columns

POSITIONS = "positions.npy"


def candidates(step: Candidates, work: Work) -> Counts:
    """Copy the rows that come through, and say where they stood."""
    pool = work.path(step.of)
    usable = RecordTable(pool / "records.arrow").usable
    first = InfluenceMatrix.load(work.path(step.scores) / MATRIX)
    through = np.zeros(len(usable), dtype=bool)
    through[usable] = came_through(
        first.values[usable], first.tasks, first.keys[usable], step.share
    )
    positions = np.flatnonzero(through)
    np.save(work.out / POSITIONS, positions)
    copy_rows(pool / "records.arrow", positions, work.out / "records.arrow")
    link(pool / "images", work.out / "images")
    unscored = int(np.isnan(first.values[usable]).any(axis=1).sum())
    return {"rows": len(positions), "of": int(usable.sum()), "without_score": unscored}


def cascaded(step: CascadedInfluence, work: Work) -> Counts:
    """Put the candidates' influence in its places, and every other usable row below it."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    some = InfluenceMatrix.load(work.path(step.influence) / MATRIX)
    first = InfluenceMatrix.load(work.path(step.candidates.scores) / MATRIX)
    positions = np.load(work.path(step.candidates) / POSITIONS)
    if not np.isfinite(some.values).all(axis=1).any():
        raise DataError(
            f"none of the {len(positions)} rows that came through the cascade has a gradient: look "
            "at the row status of their store, or raise influence.share"
        )
    keys, left = table.keys, table.usable.copy()
    measured = np.zeros(len(table), dtype=bool)
    measured[positions], left[positions] = True, False
    values = np.full((len(table), len(some.tasks)), np.nan, dtype=np.float32)
    values[positions] = some.values
    values[left] = below(some.values, some.tasks, first.values, first.tasks)[left]
    counts = save(InfluenceMatrix(values, some.tasks, keys, measured), work.out)
    return {**counts, "measured": len(positions)}


def cascaded_rows(step: CascadedRows, work: Work) -> Counts:
    """Link the candidates' rows, and say which of them each row of the pool is."""
    made = work.path(step.rows)
    positions = np.load(work.path(step.candidates) / POSITIONS)
    places = np.full(len(RecordTable(work.path(step.pool) / "records.arrow")), -1)
    places[positions] = np.arange(len(positions))
    np.save(work.out / "places.npy", places)
    link(made, work.out / "some")
    columns = read_json(made / COLUMNS)
    if not isinstance(columns, dict):
        raise DataError(f"{made / COLUMNS} cannot be read; delete {made}, it is made again.")
    terms = [TermFiles("some", weight=term["weight"]) for term in columns["terms"]]
    return write_columns(work.out, columns["tasks"], columns["groups"], terms)
