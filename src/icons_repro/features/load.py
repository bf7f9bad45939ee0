"""Load a finished feature artifact for the rows that can be selected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json
from icons_repro.core.integrity import MANIFEST
from icons_repro.core.types import InfluenceMatrix
from icons_repro.features.rows import Array2D, Picked

FORWARD_STATISTICS = ("loss", "el2n", "margin")


def load_feature(name: str, folder: Path, usable: np.ndarray) -> Any:
    """Return what `Pool.features[name]` holds, for the rows where `usable` `[N]` is true.

    Arrays stay memory maps where every row is usable; wide ones are never copied whole.
    """
    return LOADERS[name](folder, usable)


def _influence(folder: Path, usable: np.ndarray) -> InfluenceMatrix:
    matrix = InfluenceMatrix.load(folder / "influence.parquet")
    return InfluenceMatrix(matrix.values[usable], matrix.tasks, matrix.keys[usable])


def _counts(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict):
        raise DataError(f"{folder / MANIFEST} cannot be read; delete {folder}, it is made again.")
    return dict(manifest["counts"])


def _validation_counts(folder: Path, usable: np.ndarray) -> dict[str, int]:
    """Rows of each task, and of each of its sub-tasks as `TASK/SUBTASK`."""
    found = {}
    for task, count in _counts(folder).items():
        found[task] = count["usable"]
        parts = count.get("subtasks", {})
        found |= {f"{task}/{name}": rows for name, rows in parts.items()}
    return found


def _truth(folder: Path, usable: np.ndarray) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / "truth.parquet")
    return {c: table[c].to_numpy(zero_copy_only=False)[usable] for c in table.column_names}


def _array(folder: Path, name: str, usable: np.ndarray) -> np.ndarray:
    array = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array if usable.all() else array[usable]


def _wide(folder: Path, name: str, usable: np.ndarray) -> Array2D:
    array = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array if usable.all() else Picked(array, np.flatnonzero(usable))


def _hidden(name: str) -> Callable[[Path, np.ndarray], Array2D]:
    return lambda folder, usable: _wide(folder, name, usable)


def _one(name: str) -> Callable[[Path, np.ndarray], np.ndarray]:
    return lambda folder, usable: _array(folder, name, usable)


def _several(*names: str) -> Callable[[Path, np.ndarray], dict[str, np.ndarray]]:
    return lambda folder, usable: {name: _array(folder, name, usable) for name in names}


def _coincide(folder: Path, usable: np.ndarray) -> dict[str, Any]:
    return {"rows": _wide(folder, "rows", usable), "layers": _counts(folder)["layers"]}


def _released_keys(folder: Path, usable: np.ndarray) -> dict[str, np.ndarray]:
    subset = {name: np.load(folder / f"{name}.npy") for name in ("subset", "text")}
    return {**subset, "pool_text": _array(folder, "pool_text", usable)}


LOADERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "influence": _influence,
    "influence_as_released": _influence,
    "influence_less": _influence,
    "validation_counts": _validation_counts,
    "truth": _truth,
    "forward_stats": _several(*FORWARD_STATISTICS),
    "hidden_last": _hidden("hidden_last"),
    "hidden_mean": _hidden("hidden_mean"),
    "hidden_weighted": _hidden("hidden_weighted"),
    "coincide": _coincide,
    "clip": _several("image", "text"),
    "self_filter": _several("difficulty"),
    "answer_words": _one("answer_words"),
    "released_keys": _released_keys,
    "instance_gradients": _several("rows", "norms"),
}
"""How each feature is read; its name is what selectors put in `requires`."""
