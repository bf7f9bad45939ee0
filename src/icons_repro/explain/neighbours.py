"""Validation rows whose gradients are nearest to a pool row's: where influence comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json
from icons_repro.core.integrity import MANIFEST

NEAREST = 4
BLOCK = 1024
"""Validation rows that are compared at once."""


@dataclass(frozen=True)
class Neighbour:
    """One validation row near a pool row."""

    task: str
    position: int
    """In the task's records."""
    cosine: float


@dataclass(frozen=True)
class Stores:
    """Where the gradients behind an influence matrix are."""

    train: Path
    validation: Path
    """A folder with one store for each task."""
    targets: Path
    """The targets step: records and images."""
    candidates: Path | None = None
    """Of a cascade: the positions in the pool of the rows of `train`."""

    def place(self, position: int) -> int:
        """Return which row of `train` a pool row is. Raises `DataError` if it is none."""
        if self.candidates is None:
            return position
        rows = np.load(self.candidates)
        place = int(np.searchsorted(rows, position))
        if place == len(rows) or rows[place] != position:
            raise DataError("the row did not come through the cascade, so it has no gradient")
        return place


def stores_of(influence: Path) -> Stores:
    """Return the stores that an `influence.parquet` was made from.

    Raises `DataError` saying why there are none: `gradients.mode=direct` keeps none, and what was
    made may have been deleted.
    """
    folder = influence.parent
    root = folder.parents[1]
    inputs = _inputs(folder)
    candidates = None
    if "candidates" in inputs:
        candidates = root / "candidates" / str(inputs["candidates"]) / "positions.npy"
        inputs = _inputs(root / "influence" / str(inputs["influence"]))
    if "train" not in inputs:
        inputs = next((i for i in _epochs(root, inputs) if "train" in i), inputs)
    if "train" not in inputs:
        raise DataError(f"{folder} was made without stored gradients, so no row is near another.")
    found = Stores(
        root / "gradients" / str(inputs["train"]),
        root / "target_gradients" / str(inputs["validation"]),
        root / "targets" / str(inputs["targets"]),
        candidates,
    )
    for path in (found.train, found.validation, found.targets):
        if not path.is_dir():
            raise DataError(f"{path} is gone: the gradients behind the influence were deleted.")
    return found


def _inputs(folder: Path) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = (read_json(folder / MANIFEST) or {}).get("inputs", {})
    return inputs


def _epochs(root: Path, inputs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what the matrices of single epochs were made from, the last first."""
    for fingerprint in reversed(list(inputs.values())):
        yield _inputs(root / "influence" / str(fingerprint))


def nearest(stores: Stores, position: int, count: int = NEAREST) -> dict[str, list[Neighbour]]:
    """Return each task's validation rows with the largest cosine to a pool row, nearest first.

    Raises `DataError` if the pool row has no gradient, or a store cannot be read.
    """
    from icons_repro.gradients.store import GradientStore, RowStatus

    train = GradientStore.open(stores.train)
    position = stores.place(position)
    if not train.ok[position]:
        raise DataError(f"the row has no gradient: {RowStatus(train.status[position]).name}")
    row = train.read(position, position + 1)[0].numpy()
    found = {}
    for folder in sorted(path.parent for path in stores.validation.glob("*/info.json")):
        store = GradientStore.open(folder)
        starts = range(0, len(store), BLOCK)
        blocks = [store.read(s, min(s + BLOCK, len(store))).numpy() @ row for s in starts]
        cosines = np.where(store.ok, np.concatenate(blocks), -np.inf)
        order = np.argsort(-cosines, kind="stable")[: min(count, int(store.ok.sum()))]
        found[folder.name] = [Neighbour(folder.name, int(i), float(cosines[i])) for i in order]
    return found
