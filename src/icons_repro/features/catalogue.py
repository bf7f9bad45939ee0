"""What a selector may ask for: which step makes each feature, and how it is read.

A feature of one's own is a file with its step and its reader, and one entry in `FEATURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json
from icons_repro.core.integrity import MANIFEST
from icons_repro.core.step import Step
from icons_repro.core.types import InfluenceMatrix
from icons_repro.data.stage import AnswerWords, Rounds

if TYPE_CHECKING:
    from icons_repro.features.rows import Array2D
    from icons_repro.influence.rows.blocks import ByRow

FORWARD_STATISTICS = ("loss", "el2n", "margin")


def _influence(folder: Path, usable: np.ndarray) -> InfluenceMatrix:
    matrix = InfluenceMatrix.load(folder / "influence.parquet")
    measured = None if matrix.measured is None else matrix.measured[usable]
    return InfluenceMatrix(matrix.values[usable], matrix.tasks, matrix.keys[usable], measured)


def _by_row(folder: Path, usable: np.ndarray) -> ByRow:
    from icons_repro.influence.rows.files import open_by_row  # torch, which a plan does without

    return open_by_row(folder, usable)


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
    from icons_repro.features.rows import Picked  # faiss, which a plan does without

    array = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array if usable.all() else Picked(array, np.flatnonzero(usable))


def _hidden(name: str) -> Callable[[Path, np.ndarray], Array2D]:
    return lambda folder, usable: _wide(folder, name, usable)


def _one(name: str) -> Callable[[Path, np.ndarray], np.ndarray]:
    return lambda folder, usable: _array(folder, name, usable)


def _several(*names: str) -> Callable[[Path, np.ndarray], dict[str, np.ndarray]]:
    return lambda folder, usable: {name: _array(folder, name, usable) for name in names}


def _vectors(*names: str) -> Callable[[Path, np.ndarray], dict[str, Array2D]]:
    return lambda folder, usable: {name: _wide(folder, name, usable) for name in names}


def _spectrum(folder: Path, usable: np.ndarray) -> dict[str, Array2D]:
    numbers = {name: _array(folder, name, usable) for name in ("entropy", "top_share")}
    return {**numbers, "last": _wide(folder, "last", usable)}


def _coincide(folder: Path, usable: np.ndarray) -> dict[str, Any]:
    return {"rows": _wide(folder, "rows", usable), "layers": _counts(folder)["layers"]}


def _released_keys(folder: Path, usable: np.ndarray) -> dict[str, np.ndarray]:
    subset = {name: np.load(folder / f"{name}.npy") for name in ("subset", "text")}
    return {**subset, "pool_text": _array(folder, "pool_text", usable)}


@dataclass(frozen=True)
class PoolFeature:
    """Something that a selector may read of every pool row."""

    made_by: Callable[[Any], Step | None]
    """From a run's graph (graph/graph.py) to the step that makes it; None where there is none."""
    load: Callable[[Path, np.ndarray], Any]
    """From the step's folder, for the rows where `usable` `[N]` is true. Arrays stay memory maps
    where every row is usable; wide ones are never copied whole."""


FEATURES: dict[str, PoolFeature] = {
    "influence": PoolFeature(lambda g: g.influence, _influence),
    "influence_as_released": PoolFeature(
        lambda g: g.influences.by_task(g.influences.as_released), _influence
    ),
    "influence_less": PoolFeature(lambda g: g.influences.by_task(g.influences.less), _influence),
    "influence_rows": PoolFeature(lambda g: g.influence_rows, _by_row),
    "influence_as_released_rows": PoolFeature(
        lambda g: g.influences.by_row(g.influences.as_released), _by_row
    ),
    "influence_less_rows": PoolFeature(lambda g: g.influences.by_row(g.influences.less), _by_row),
    "validation_counts": PoolFeature(lambda g: g.targets, _validation_counts),
    "truth": PoolFeature(lambda g: g.world, _truth),
    "forward_stats": PoolFeature(lambda g: g.features.forward, _several(*FORWARD_STATISTICS)),
    "hidden_last": PoolFeature(lambda g: g.features.forward, _hidden("hidden_last")),
    "hidden_mean": PoolFeature(lambda g: g.features.forward, _hidden("hidden_mean")),
    "hidden_weighted": PoolFeature(lambda g: g.features.forward, _hidden("hidden_weighted")),
    "coincide": PoolFeature(lambda g: g.features.coincide, _coincide),
    "spectrum": PoolFeature(lambda g: g.features.spectrum, _spectrum),
    "vision_tokens": PoolFeature(lambda g: g.features.vision_tokens, _vectors("attended")),
    "attention_trajectory": PoolFeature(
        lambda g: g.features.attention_trajectory, _one("trajectory")
    ),
    "clip": PoolFeature(lambda g: g.features.clip, _several("image", "text")),
    "image_cls": PoolFeature(lambda g: g.features.images, _hidden("rows")),
    "question_losses": PoolFeature(lambda g: g.features.questions, _several("asked", "unasked")),
    "self_filter": PoolFeature(lambda g: g.features.self_filter, _several("difficulty")),
    "answer_words": PoolFeature(lambda g: AnswerWords(pool=g.pool), _one("answer_words")),
    "rounds": PoolFeature(lambda g: Rounds(pool=g.pool), _one("rounds")),
    "released_keys": PoolFeature(lambda g: g.features.released_keys, _released_keys),
    "instance_gradients": PoolFeature(
        lambda g: g.gradients.of_instances, _several("rows", "norms")
    ),
}
"""Every feature by its name in `requires`; docs/features.md says what each holds."""
