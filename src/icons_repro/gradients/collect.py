"""From a batch to its rows: gradients -> direction -> projection, and what became of each row."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from icons_repro.core.errors import UserError
from icons_repro.core.faults import is_out_of_memory
from icons_repro.gradients.directions import Direction, SgdDirection
from icons_repro.gradients.memory import TokenLimits, device_name
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Accumulator, Projection
from icons_repro.gradients.store import RowStatus
from icons_repro.models.batches import Batch, answer_counts, take_rows
from icons_repro.models.families import sees_images

log = logging.getLogger(__name__)
ENOUGH = 16
"""Rows that do not fit alone, before any fits, after which no other is tried."""


@dataclass(frozen=True)
class BatchRows:
    """The rows of one batch, ready for a store."""

    values: torch.Tensor
    """Normalised rows `[B, d]`; zeros where the status is not ok."""
    norms: torch.Tensor
    """Length of each row before normalising `[B]`."""
    status: torch.Tensor
    """`RowStatus` `[B]`, uint8, on the CPU."""


class RowCollector:
    """Makes normalised, projected rows of gradients; splits a batch that does not fit in memory."""

    def __init__(
        self,
        gradients: PerSampleGradients,
        projection: Projection,
        direction: Direction | None = None,
        max_rows: int | None = None,
        limits: TokenLimits | None = None,
    ) -> None:
        """Prepare.

        Args:
            gradients: what takes the gradients.
            projection: what shortens the rows.
            direction: SGD unless given.
            max_rows: cuts larger batches, for rows too long to hold many of.
            limits: what is remembered of batches that did not fit; of this run alone unless given.
        """
        if projection.layout != gradients.layout:
            raise UserError("the projection was built for other parameters than the gradients'")
        self.gradients = gradients
        self.projection = projection
        self.direction = direction or SgdDirection()
        self._max_rows = max_rows
        self._limits = limits or TokenLimits()
        self._workload = _workload(gradients, projection)
        self._checked = False
        self._alone: int | None = 0
        """Rows given up while none has fitted; None once one has."""

    def __call__(self, batch: Batch) -> BatchRows:
        """Return the batch's rows.

        A batch that runs out of memory is halved until it fits, and later ones are cut to that
        size beforehand; a single row that does not fit is given up as `out_of_memory`. No row is
        ever shortened.

        Raises:
            UserError: some LoRA-B matrix has no gradient at all, so it cannot have been trained; or
                row after row does not fit, from the first on.
        """
        n, width = batch["input_ids"].shape
        device = device_name(batch["input_ids"].device)
        room = self._room(device, n, width)
        if n > room:
            return self._in_parts(batch, room)
        try:
            rows = self._collect(batch)
            self._alone = None
            return rows
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the exception's frames hold the tensors that did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if n == 1:
            return self._given_up(batch, device)
        self._limits.did_not_fit(device, self._workload, n * width)
        log.warning(
            "a batch of %d x %d tokens does not fit in the memory of %s: halved, as later ones "
            "of its size will be",
            *(n, width, device),
        )
        return self._in_parts(batch, n // 2)

    def limit_rows(self, rows: int) -> None:
        """Cut larger batches from now on."""
        self._max_rows = rows if self._max_rows is None else min(rows, self._max_rows)

    def _room(self, device: str, n: int, width: int) -> int:
        """Return how many rows of `width` tokens may go at once, 1 at least."""
        limit = self._limits.get(device, self._workload)
        rows = n if limit is None else max(1, limit // width)
        return rows if self._max_rows is None else min(rows, self._max_rows)

    def _given_up(self, batch: Batch, device: str) -> BatchRows:
        log.warning("position %s does not fit in memory", batch["positions"].tolist())
        if self._alone is not None:
            self._alone += 1
            if self._alone >= ENOUGH:
                raise UserError(
                    f"not one of {ENOUGH} rows fits in the memory of {device}, each alone (the "
                    f"last has {batch['input_ids'].shape[1]} tokens): take a larger device, "
                    "trainer.model_dtype=bfloat16, or a smaller lora.rank. What is done is kept."
                )
        status = torch.tensor([RowStatus.out_of_memory], dtype=torch.uint8)
        return BatchRows(torch.zeros(1, self.projection.dim), torch.zeros(1), status)

    def _in_parts(self, batch: Batch, size: int) -> BatchRows:
        starts = range(0, len(batch["input_ids"]), size)
        token = self.gradients.image_token_id
        every = range(len(batch["input_ids"]))
        parts = [self(take_rows(batch, every[start : start + size], token)) for start in starts]
        return BatchRows(
            torch.cat([part.values.cpu() for part in parts]),
            torch.cat([part.norms.cpu() for part in parts]),
            torch.cat([part.status for part in parts]),
        )

    def _collect(self, batch: Batch) -> BatchRows:
        ids = batch["input_ids"]
        sink = _Sink(self, self.projection.begin(len(ids), ids.device, self._dtype()))
        losses = self.gradients.stream(batch, sink.add)
        with torch.autocast(ids.device.type, enabled=False):
            values, norms = sink.accumulator.finish()
        status = row_status(batch, losses, sink.squares(), norms)
        ok = status == RowStatus.ok
        if not self._checked and bool(ok.any()):
            self._require_trained_adapter(sink.moved)
        ok_here = ok.to(values.device)
        values = torch.where(ok_here[:, None], values / norms.clamp_min(1e-30)[:, None], 0.0)
        return BatchRows(values, torch.where(ok_here, norms, 0.0), status)

    def _dtype(self) -> torch.dtype:
        double = next(self.gradients.model.parameters()).dtype == torch.float64
        return torch.float64 if double else torch.float32

    def _require_trained_adapter(self, moved: set[int]) -> None:
        self._checked = True
        still = [
            name
            for index, name in enumerate(self.gradients.layout.names)
            if index not in moved and ".lora_B." in name and not sees_images(name)
        ]
        if still:
            raise UserError(
                f"{len(still)} LoRA-B matrices have a gradient of exactly zero on the first batch, "
                f"first {still[0]}. Is the adapter connected (gradient checkpointing without input "
                "gradients, frozen or disabled layers)?"
            )


class _Sink:
    """Receives one batch's gradients: measures them, turns them to directions, and projects."""

    def __init__(self, owner: RowCollector, accumulator: Accumulator) -> None:
        self._owner = owner
        self.accumulator = accumulator
        self.moved: set[int] = set()
        self._lengths: list[torch.Tensor] = []

    def squares(self) -> torch.Tensor:
        """Return the squared length of each raw gradient, float64 `[B]`."""
        return torch.stack(self._lengths).double().square().sum(dim=0)

    def add(self, index: int, gradients: torch.Tensor) -> None:
        length = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
        self._lengths.append(length)
        if not self._owner._checked and bool((length > 0).any()):
            self.moved.add(index)
        self.accumulator.add(index, self._owner.direction(index, gradients))


def row_status(
    batch: Batch, losses: torch.Tensor, squares: torch.Tensor, norms: torch.Tensor
) -> torch.Tensor:
    """Return each row's `RowStatus`, uint8 `[B]` on the CPU.

    Args:
        losses: each sample's loss `[B]`.
        squares: squared length of each raw gradient `[B]`, before direction and projection.
        norms: length of each projected direction `[B]`.
    """
    finite = losses.isfinite() & squares.isfinite() & norms.isfinite()
    status = torch.full((len(losses),), int(RowStatus.ok), dtype=torch.uint8, device=losses.device)
    status[(squares == 0) | (norms == 0)] = RowStatus.zero
    status[~finite] = RowStatus.non_finite
    status[answer_counts(batch) == 0] = RowStatus.no_answer_tokens
    return status.cpu()


def _workload(gradients: PerSampleGradients, projection: Projection) -> str:
    """Return what, besides the device, decides how much memory a token takes."""
    model = gradients.model
    weights = sum(p.numel() for p in model.parameters())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    rows = f"{gradients.layout.dim:,} to {projection.dim:,} by {projection.kind}"
    return f"{weights:,} weights in {dtype}, {rows}, {gradients.method}"
