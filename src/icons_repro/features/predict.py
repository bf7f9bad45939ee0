"""The loop that runs a model over the pool once, without training, and stores what it gives."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration

from icons_repro.features.arrays import Columns, FeatureArrays
from icons_repro.models.answers import base_model
from icons_repro.models.batches import Batch


class FeaturePass(L.LightningModule):
    """One pass over the pool. Subclasses say which arrays they fill, and their rows of a batch."""

    arrays: FeatureArrays

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """The arrays that `rows` gives."""

    @property
    def facts(self) -> dict[str, int]:
        """Numbers that a reader of the arrays needs; they stand in the manifest's counts."""
        return {}

    @abstractmethod
    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return `[B, ...]` of each array, in the order of the batch."""

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Store one batch's rows; return its positions `[B]`."""
        self.arrays.write(batch["positions"].cpu().numpy(), self.rows(batch))
        return batch["positions"]


def run_pass(
    features: FeaturePass, loader: DataLoader[Batch], arrays: FeatureArrays, trainer: L.Trainer
) -> None:
    """Run the pass over the loader's rows (none, if all are stored)."""
    features.arrays = arrays
    if len(loader):
        trainer.predict(features.eval(), loader, return_predictions=False)


def llava_of(model: nn.Module) -> LlavaForConditionalGeneration:
    """Return the LLaVA inside a PEFT wrapper (its LoRA layers stay in place), or itself."""
    return cast(LlavaForConditionalGeneration, base_model(model))


def hidden_size(model: nn.Module) -> int:
    """Return the width of the language model's states."""
    config: Any = llava_of(model).config
    return int(config.get_text_config().hidden_size)
