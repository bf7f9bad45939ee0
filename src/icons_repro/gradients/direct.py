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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typing_extensions import override

from icons_repro.core.errors import DataError
from icons_repro.core.types import InfluenceMatrix
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.directions import Direction
from icons_repro.gradients.extract import NumberedBatches, default_trainer, extract, run_module
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection, Unprojected
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
    trainer: lightning.Trainer | None = None,
    limits: TokenLimits | None = None,
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
        trainer: runs the loops.
        limits: what is remembered of batches that did not fit (see `RowCollector`).

    Raises:
        DataError: the directions do not fit (with the numbers), or a task has no usable row.
    """
    groups = {task: _groups(task, data, subtasks or {}) for task, data in validation.items()}
    names = tuple(name for labels in groups.values() for name in dict.fromkeys(labels))
    runner = trainer or default_trainer()
    on_device = device_room(gradients.model, runner.strategy.root_device)
    room = require_room(len(names), gradients.layout, memory_gb, on_device)
    vectors = torch.zeros(len(names), gradients.layout.dim)
    projection = Unprojected(gradients.layout)
    collector = RowCollector(gradients, projection, direction, max_rows=room, limits=limits)
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
    **options: Any,
) -> InfluenceMatrix:
    """Score every training row on every direction as its gradient is formed.

    Args:
        folder: where the N x T scores are kept while the pass goes on; a kill loses little.
        options: what `extract` takes: `n_rows`, `keys`, `direction`, `identities`, `trainer`, ...

    Returns:
        float32 `[N, T]`, a column a direction, a row of NaN where there is no gradient.

    Raises:
        DataError: the directions do not fit in the device's memory (with the numbers).
    """
    runner = options.pop("trainer", None) or default_trainer()
    projection = DirectScores(gradients.layout, directions)
    room = device_room(gradients.model, runner.strategy.root_device)
    needed = directions.vectors.nbytes
    if room is not None and needed > room:
        raise DataError(
            f"gradients.mode=direct keeps {len(directions.names)} directions on the device, "
            f"{needed / 1e9:.2f} GB; {room / 1e9:.2f} GB may be used of it. Take fewer tasks or "
            "parameters, a larger device, or gradients.mode=store."
        )
    options |= {"dtype": "float32", "trainer": runner}
    store = extract(gradients, projection, data, folder, **options)
    return direct_influence(store, directions.names)


def direct_influence(store: GradientStore, names: Sequence[str]) -> InfluenceMatrix:
    """Read the scores that `score_direct` left in a store."""
    values = store.read().numpy()
    values[~store.ok] = np.nan
    return InfluenceMatrix(values, tuple(names), store.keys)


def require_room(
    n: int, layout: ParameterLayout, memory_gb: float | None, on_device: int | None = None
) -> int:
    """Return how many unprojected rows may be held at once.

    The host holds them beside `n` directions; a device with memory of its own, of which `on_device`
    bytes may be used, holds the rows alone.

    Raises:
        DataError: the directions and one row with its working copy do not fit.
    """
    limit = free_memory() / 2 if memory_gb is None else memory_gb * 1e9
    row = layout.dim * 4
    rows = int((limit - n * row) // (3 * row))
    if rows < 1:
        raise DataError(
            f"gradients.mode=direct keeps {n} directions of {layout.dim:,} parameters: "
            f"{n * row / 1e9:.2f} GB, and {3 * row / 1e9:.2f} GB to make them; "
            f"{limit / 1e9:.2f} GB may be used. Take fewer tasks or parameters, allow more "
            "memory, or set gradients.mode=store."
        )
    if on_device is None:
        return rows
    if on_device < 3 * row:
        raise DataError(
            f"gradients.mode=direct makes rows of {layout.dim:,} parameters, {3 * row / 1e9:.2f} "
            f"GB with working copies; {on_device / 1e9:.2f} GB of the device may be used. Take "
            "fewer parameters, a larger device, or gradients.mode=store."
        )
    return min(rows, on_device // (3 * row))


def device_room(model: nn.Module, device: torch.device) -> int | None:
    """Return half of the bytes that a GPU has left beside the model; None for the CPU.

    The other half is for the activations of a batch.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    to_come = sum(p.nbytes for p in model.parameters() if p.device != device)
    return max(0, free - to_come) // 2


def free_memory() -> int:
    """Return the bytes of memory that the system can still give."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise DataError("/proc/meminfo does not tell how much memory is free; pass memory_gb")


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
