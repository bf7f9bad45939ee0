"""The selection directory: the same four files, whatever method chose the rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.files import write_json
from icons_repro.core.types import Selection


def write_selection(selection: Selection, keys: np.ndarray, out: Path) -> None:
    """Write `positions.npy`, `keys.txt`, `scores.parquet` and `notes.json`.

    `keys` are the pool's content keys `[N]`, dtype `S32`; `keys.txt` lists the chosen ones in the
    order of `positions.npy`.
    """
    np.save(out / "positions.npy", selection.positions.astype(np.int64))
    chosen = keys[selection.positions].astype("U32")
    (out / "keys.txt").write_text("".join(f"{key}\n" for key in chosen))
    columns: dict[str, Any] = {
        "key": pa.array(keys.astype("U32")),
        "position": pa.array(np.arange(len(keys), dtype=np.int64)),
        "score": pa.array(selection.scores),
    }
    columns |= {name: pa.array(values) for name, values in selection.columns.items()}
    pq.write_table(pa.table(columns), out / "scores.parquet")
    ties = asdict(selection.ties) if selection.ties else None
    write_json(out / "notes.json", {"ties": ties, **selection.notes})


def read_notes(folder: Path) -> dict[str, Any]:
    """Return the tie statistics and counts that the selector recorded."""
    notes: dict[str, Any] = json.loads((folder / "notes.json").read_text())
    return notes


def spread(selection: Selection, usable: np.ndarray) -> Selection:
    """Map a selection over the usable rows back to the whole pool.

    `usable` is bool `[N]`; rows outside it get NaN (or 0 in integer columns) and are never chosen.
    """
    if usable.all():
        return selection
    where = np.flatnonzero(usable)

    def widen(values: np.ndarray) -> np.ndarray:
        blank = np.nan if values.dtype.kind == "f" else np.zeros(1, values.dtype)[0]
        wide = np.full(len(usable), blank, dtype=values.dtype)
        wide[where] = values
        return wide

    return Selection(
        positions=where[selection.positions],
        scores=widen(np.asarray(selection.scores, dtype=np.float64)),
        columns={name: widen(np.asarray(v)) for name, v in selection.columns.items()},
        ties=selection.ties,
        notes=selection.notes,
    )
