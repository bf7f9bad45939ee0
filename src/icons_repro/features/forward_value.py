"""For-Value: the gradient at the output layer, from a forward pass alone.

With h_t the state that predicts answer token y_t and e_t = onehot(y_t) - softmax(W h_t), the
gradient of -sum_t log p(y_t) with respect to the output layer's weights W is -S, and

    S(z) = sum_t e_t h_t^T   [V, h]          value(z, z') = <S(z), S(z')>

Products are linear in S(z'), so a task's mean S is all that is needed of its validation rows. No
S of the pool is kept: each row's is formed and multiplied, as one more output layer would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from icons_repro.core.errors import DataError
from icons_repro.core.machine import free_memory
from icons_repro.features.arrays import Columns
from icons_repro.features.forward_stats import answer_tokens, last_states
from icons_repro.features.predict import FeaturePass, llava_of
from icons_repro.models.batches import Batch

HELD_FLOATS = 2**28
"""Numbers of the pool's S held at once: 1 GB."""


def output_gradients(model: nn.Module, batch: Batch) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (row of the batch, S `[V, h]`) in float32, NaN for a row without answer tokens.

    Source: Deng et al. 2026, arXiv:2508.10180, equation 1; vengdeng/For-Value-Efficient-
    Forward-Only-Data-Valuation-for-finetuning, forvalue_VL_optimized.py:225-262 (onehot minus
    softmax, times the hidden state, summed over positions).
    """
    tokens = answer_tokens(last_states(model, batch), batch)
    head = llava_of(model).lm_head
    for row in range(len(batch["input_ids"])):
        own = tokens.rows == row
        hidden = tokens.hidden[own]
        errors = -head(hidden).float().softmax(dim=1)
        targets = tokens.targets[own]
        errors[torch.arange(len(targets), device=errors.device), targets] += 1
        found = errors.T @ hidden.float()
        yield row, found if len(targets) else torch.full_like(found, torch.nan)


class DirectionSums(FeaturePass):
    """Adds the S of validation rows to their columns; stores nothing."""

    def __init__(self, model: nn.Module, vectors: torch.Tensor, column: np.ndarray) -> None:
        """`column` `[M]`: the row of `vectors` that each validation row goes to."""
        super().__init__()
        self.model = model
        self.vectors, self.column = vectors, column
        self.usable = np.zeros(len(column), dtype=bool)

    @property
    def columns(self) -> Columns:
        """None."""
        return {}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Nothing to store."""
        return {}

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Add one batch."""
        positions = batch["positions"].cpu().numpy()
        for row, found in output_gradients(self.model, batch):
            if bool(found.isfinite().all()):
                position = positions[row]
                self.usable[position] = True
                self.vectors[self.column[position]] += found.flatten().to(self.vectors)
        return batch["positions"]


class ForwardValues(FeaturePass):
    """Fills `values` `[N, C]`: each pool row's product with every column."""

    def __init__(self, model: nn.Module, vectors: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("vectors", vectors, persistent=False)

    @property
    def columns(self) -> Columns:
        """One number a column."""
        return {"values": ((len(self.vectors),), "float32")}  # type: ignore[arg-type]

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Form S a few rows at a time and multiply."""
        vectors: torch.Tensor = self.vectors  # type: ignore[assignment]
        room = max(1, HELD_FLOATS // vectors.shape[1])
        found, held = [], []
        for _, one in output_gradients(self.model, batch):
            held.append(one.flatten())
            if len(held) == room:
                found.append(torch.stack(held) @ vectors.T)
                held = []
        if held:
            found.append(torch.stack(held) @ vectors.T)
        return {"values": torch.cat(found)}


def room_for(columns: int, model: nn.Module) -> torch.Tensor:
    """Return zeros `[C, V h]`. Raises `DataError` where they do not fit, with the numbers."""
    weight = llava_of(model).lm_head.weight
    needed, free = columns * weight.numel() * 4, free_memory()
    if needed > free / 2:
        raise DataError(
            f"influence=forward keeps {columns} matrices of {weight.shape[0]} x {weight.shape[1]}: "
            f"{needed / 1e9:.1f} GB; {free / 2e9:.1f} GB may be used. A rule that reads tasks, not "
            "validation rows, needs one for each task alone (selector.rule=round_robin); or take "
            "fewer tasks (targets.tasks)."
        )
    return torch.zeros(columns, weight.numel())


def task_columns(labels: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[str], list[np.ndarray]]:
    """Name the columns of each task's rows: `TASK`, or `TASK/LABEL`.

    Returns the names as they come and, for each task, the column of each of its rows.
    """
    names: list[str] = []
    columns = []
    for task, own in labels:
        full = [f"{task}/{label}" if label else task for label in own]
        names += [name for name in dict.fromkeys(full) if name not in names]
        columns.append(np.array([names.index(name) for name in full], dtype=np.int64))
    return names, columns
