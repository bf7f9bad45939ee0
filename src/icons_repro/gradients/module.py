"""The loop that runs the model: a thin LightningModule whose predict step fills a store."""

from __future__ import annotations

import lightning
import torch

from icons_repro.gradients.batches import Batch
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.writer import StoreWriter


class GradientModule(lightning.LightningModule):
    """Writes the gradient rows of every predicted batch."""

    def __init__(self, collector: RowCollector, writer: StoreWriter) -> None:
        super().__init__()
        self.model = collector.gradients.model
        self._collector = collector
        self._writer = writer

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Compute and store one batch's rows, unless all are stored; return the positions `[B]`."""
        positions = batch["positions"].cpu().numpy()
        if not self._writer.lacks(positions):
            return batch["positions"]
        with torch.inference_mode(False), torch.enable_grad():
            # Lightning may have moved the batch in inference mode; such tensors have no autograd.
            own = {k: v.clone() if v.is_inference() else v for k, v in batch.items()}
            rows = self._collector(own)
        self._writer.write(positions, rows.values, rows.norms, rows.status.numpy())
        return batch["positions"]
