"""Direct mode: exact influence without projection and without a store.

Influence is linear in the validation rows, so the mean normalised validation gradient of each task
is all that is needed of them. It is kept unprojected, and every training gradient is scored as it
is formed:

    I_k(i) = <g_i, u_k> / |g_i|,    u_k = mean over j in V_k of v_j / |v_j|

That takes T adapter-sized vectors in memory and another pass over the pool for every new task. It
is also the fidelity oracle for every projection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from typing_extensions import override

from icons_repro.core.errors import DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.directions import Direction
from icons_repro.gradients.extract import (
    Running,
    StoreOptions,
    default_trainer,
    extract,
    run_module,
)
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.numbered import NumberedBatches
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection, Unprojected
from icons_repro.gradients.room import device_room, require_room
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.models.batches import Batch


@dataclass(frozen=True)
class TaskDirections:
    """The mean normalised validation gradient of each task or sub-task, unprojected."""

    names: tuple[str, ...]
    """`TASK` or `TASK/SUBTASK`."""
    vectors: torch.Tensor
    """float32 `[T, D]`."""

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        save_file({name: self.vectors[i] for i, name in enumerate(self.names)}, path)

    @classmethod
    def load(cls, path: Path) -> TaskDirections:
        """Read what `save` wrote; tasks come in the order of their names."""
        tensors = dict(sorted(load_file(path).items()))
        return cls(tuple(tensors), torch.stack(list(tensors.values())))


def task_directions(
    gradients: PerSampleGradients,
    validation: Mapping[str, Iterable[Batch] | torch.Tensor],
    *,
    subtasks: Mapping[str, Sequence[str]] | None = None,
    raw: Collection[str] = (),
    direction: Direction | None = None,
    memory_gb: float | None = None,
    running: Running | None = None,
) -> TaskDirections:
    """Return each task's direction.

    Args:
        gradients: what takes the gradients.
        validation: each task's batches (see `extract`), by task name.
        subtasks: for some tasks, the sub-task of each validation row.
        raw: tasks whose rows keep their length (see `score`'s `raw_validation`).
        direction: SGD unless given.
        memory_gb: memory that the directions may take, GB; half of what is free unless given. A
            device's own memory holds a batch's gradients, in half of what it has free.
        running: the loops' trainer and memory.

    Raises:
        DataError: the directions do not fit (with the numbers), or a task has no usable row.
    """
    groups = {task: _groups(task, data, subtasks or {}) for task, data in validation.items()}
    names = tuple(name for labels in groups.values() for name in dict.fromkeys(labels))
    running = running or Running()
    runner = running.trainer or default_trainer()
    on_device = device_room(gradients.model, runner.strategy.root_device)
    room = require_room(len(names), gradients.layout, memory_gb, on_device)
    vectors = torch.zeros(len(names), gradients.layout.dim)
    projection = Unprojected(gradients.layout)
    collector = RowCollector(gradients, projection, direction, room, running.limits)
    for task, data in validation.items():
        own = [names.index(name) for name in groups[task]]
        sums = _DirectionSums(vectors, np.asarray(own), task in raw)
        run_module(collector, sums, NumberedBatches(data), runner)
        for index in sorted(set(own)):
            if not sums.counts[index]:
                raise DataError(f"{names[index]} has no usable validation row")
            vectors[index] /= sums.counts[index]
    return TaskDirections(names, vectors)


def score_direct(
    gradients: PerSampleGradients,
    directions: TaskDirections,
    data: Iterable[Batch] | torch.Tensor,
    folder: Path | str,
    *,
    direction: Direction | None = None,
    store: StoreOptions | None = None,
    running: Running | None = None,
) -> InfluenceMatrix:
    """Score every training row on every direction as its gradient is formed.

    Args:
        folder: where the N x T scores are kept while the pass goes on; a kill loses little.
        direction, running: see `extract`.
        store: see `extract`; the scores are float32 whatever it says.

    Returns:
        float32 `[N, T]`, a column a direction, a row of NaN where there is no gradient.

    Raises:
        DataError: the directions do not fit in the device's memory (with the numbers).
    """
    running = running or Running()
    runner = running.trainer or default_trainer()
    projection = DirectScores(gradients.layout, directions)
    room = device_room(gradients.model, runner.strategy.root_device)
    needed = directions.vectors.nbytes
    if room is not None and needed > room:
        raise DataError(
            f"gradients.mode=direct keeps {len(directions.names)} directions on the device, "
            f"{needed / 1e9:.2f} GB; {room / 1e9:.2f} GB may be used of it. Take fewer tasks or "
            "parameters, a larger device, or gradients.mode=store."
        )
    scores = extract(
        gradients,
        projection,
        data,
        folder,
        direction=direction,
        store=replace(store or StoreOptions(), dtype="float32"),
        running=replace(running, trainer=runner),
    )
    return direct_influence(scores, directions.names)


def direct_influence(store: GradientStore, names: Sequence[str]) -> InfluenceMatrix:
    """Read the scores that `score_direct` left in a store."""
    values = store.read().numpy()
    values[~store.ok] = np.nan
    return InfluenceMatrix(values, tuple(names), store.keys)


def _groups(
    task: str, data: Iterable[Batch] | torch.Tensor, subtasks: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the direction's name of each validation row."""
    if task in subtasks:
        return [f"{task}/{label}" for label in subtasks[task]]
    return [task] * NumberedBatches(data).rows()


class _DirectionSums:
    """Adds normalised rows to their task's direction; takes the place of a store's writer.

    With `raw`, rows get their length back.
    """

    def __init__(self, vectors: torch.Tensor, group: np.ndarray, raw: bool = False) -> None:
        self._vectors = vectors
        self._group = group
        self._raw = raw
        self._done = np.zeros(len(group), dtype=bool)
        self.counts = np.zeros(len(vectors), dtype=np.int64)

    def lacks(self, positions: np.ndarray) -> bool:
        return not bool(self._done[positions].all())

    def write(
        self, positions: np.ndarray, rows: torch.Tensor, norms: torch.Tensor, status: np.ndarray
    ) -> None:
        for i, position in enumerate(positions.tolist()):
            if self._done[position] or status[i] != RowStatus.ok:
                continue
            row = rows[i].to(self._vectors)
            self._vectors[self._group[position]] += row * float(norms[i]) if self._raw else row
            self.counts[self._group[position]] += 1
        self._done[positions] = True


class DirectScores(Projection):
    """Looks like a projection of dimension T: a row is its products with the directions."""

    kind = "direct"

    def __init__(self, layout: ParameterLayout, directions: TaskDirections) -> None:
        if directions.vectors.shape[1] != layout.dim:
            raise DataError(
                f"directions of {directions.vectors.shape[1]} parameters, gradients of {layout.dim}"
            )
        super().__init__(layout, len(directions.names))
        self._directions = directions
        self._moved: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    @override
    def begin(
        self, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> DirectAccumulator:
        key = (torch.device(device), dtype)
        if key not in self._moved:
            self._moved[key] = self._directions.vectors.to(*key)
        return DirectAccumulator(self._moved[key], self.layout.offsets, rows)

    @override
    def probe(self) -> bytes:
        digest = hashlib.blake2b("\n".join(self._directions.names).encode())
        for vector in self._directions.vectors:
            digest.update(vector.contiguous().numpy().tobytes())
        return digest.digest()


class DirectAccumulator:
    """Sums products with the directions and the squared length of each gradient."""

    def __init__(self, vectors: torch.Tensor, offsets: tuple[int, ...], rows: int) -> None:
        self._vectors = vectors
        self._offsets = offsets
        self._out = vectors.new_zeros(rows, len(vectors))
        self._squares = vectors.new_zeros(rows, dtype=torch.float64)

    def add(self, parameter: int, gradients: torch.Tensor) -> None:
        """See `Accumulator.add`."""
        values = gradients.flatten(1).to(self._out.dtype)
        start = self._offsets[parameter]
        self._out.addmm_(values, self._vectors[:, start : start + values.shape[1]].T)
        self._squares += torch.linalg.vector_norm(values, dim=1).double().square()

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Accumulator.finish`; the norm is that of the unprojected direction."""
        return self._out, self._squares.sqrt().to(self._out.dtype)
