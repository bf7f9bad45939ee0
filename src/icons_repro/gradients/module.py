"""The loop that runs the model: a thin LightningModule whose predict step fills a store."""

from __future__ import annotations

from typing import Protocol

import lightning
import numpy as np
import torch

from icons_repro.gradients.collect import RowCollector
from icons_repro.models.batches import Batch


class RowSink(Protocol):
    """Takes finished rows: a store's writer, or the sums of direct mode."""

    def lacks(self, positions: np.ndarray) -> bool:
        """Say whether any of these pool positions is without a row."""
        ...

    def write(
        self, positions: np.ndarray, rows: torch.Tensor, norms: torch.Tensor, status: np.ndarray
    ) -> None:
        """Take rows; see `StoreWriter.write`."""
        ...


class GradientModule(lightning.LightningModule):
    """Hands the gradient rows of every predicted batch to a sink."""

    def __init__(self, collector: RowCollector, sink: RowSink) -> None:
        super().__init__()
        self.model = collector.gradients.model
        self._collector = collector
        self._sink = sink

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Compute and store one batch's rows, unless all are stored; return the positions `[B]`."""
        positions = batch["positions"].cpu().numpy()
        if not self._sink.lacks(positions):
            return batch["positions"]
        with torch.inference_mode(False), torch.enable_grad():
            # Lightning may have moved the batch in inference mode; such tensors have no autograd.
            own = {k: v.clone() if v.is_inference() else v for k, v in batch.items()}
            rows = self._collector(own)
        self._sink.write(positions, rows.values, rows.norms, rows.status.numpy())
        return batch["positions"]
