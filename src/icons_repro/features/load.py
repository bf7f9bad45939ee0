"""Load a finished feature artifact for the rows that can be selected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from icons_repro.core.types import InfluenceMatrix


def load_feature(name: str, folder: Path, usable: np.ndarray) -> Any:
    """Return what `Pool.features[name]` holds, for the rows where `usable` `[N]` is true."""
    if name == "influence":
        matrix = InfluenceMatrix.load(folder / "influence.parquet")
        return InfluenceMatrix(matrix.values[usable], matrix.tasks, matrix.keys[usable])
    if name == "validation_counts":
        counts = json.loads((folder / "manifest.json").read_text())["counts"]
        return {task: count["usable"] for task, count in counts.items()}
    if name == "truth":
        table = pq.read_table(folder / "truth.parquet")
        return {c: table[c].to_numpy(zero_copy_only=False)[usable] for c in table.column_names}
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    rows = {k: v if usable.all() else v[usable] for k, v in arrays.items()}
    return rows[name] if set(rows) == {name} else rows
