"""The one LightningModule that trains: warm-up, fine-tuning, and the tiny base."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from icons_repro.core.errors import DataError
from icons_repro.core.settings import TrainSettings
from icons_repro.models.answers import answer_logits
from icons_repro.models.inputs import model_inputs
from icons_repro.models.lora import in_projector, require_float32

if TYPE_CHECKING:
    from icons_repro.data.dataset import Batch


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Return the factor on the learning rate at `step` of `total` (transformers' cosine)."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class InstructionTuner(L.LightningModule):
    """Trains whatever of `model` requires gradients on answer tokens, projector at its own rate."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        total_steps: int,
        seed: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.world_size = world_size
        self.model = model
        self.settings = settings
        self.total_steps = total_steps
        self.strict_loading = False  # checkpoints hold only what is trained

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters by their names in `model`."""
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def on_fit_start(self) -> None:
        """Refuse to train anything that is not float32."""
        require_float32(self.trained())

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the mean cross-entropy over the batch's answer tokens.

        Logits are made of those tokens alone: all of them would take 17 GB at 16 x 2,048 tokens.
        """
        # Dropout follows from the seed and the micro-batch's number among those of all ranks: a
        # resumed run draws the same masks, and so does another number of devices.
        number = batch_idx * self.world_size + self.global_rank
        torch.manual_seed(hash((self.seed, number)))
        logits, targets = answer_logits(self.model, model_inputs(batch), batch["labels"])
        loss = functional.cross_entropy(logits, targets)
        if not torch.isfinite(loss):
            rows = batch["positions"].tolist()
            raise DataError(
                f"the loss is {loss.item()} at step {self.global_step}, rows {rows}: look for rows "
                "whose answers are all cut away, or lower the learning rate."
            )
        if "pixel_values" not in batch:
            # LLaVA's dummy image: the projector's gradient is zero, not absent, on any number of
            # devices, so that Adam's moments move alike.
            loss = loss + 0.0 * sum(p.sum() for _, p in self.trained())
        return loss

    def rate_factor(self, step: int) -> float:
        """Return the factor on both learning rates at optimizer step `step`, from 0."""
        warmup = math.ceil(self.settings.warmup_ratio * self.total_steps)
        return cosine_with_warmup(step, self.total_steps, warmup)

    def epoch_rates(self) -> list[float]:
        """Return the mean learning rate of each epoch, the weights of LESS's checkpoints."""
        epochs = self.settings.epochs
        per_epoch = self.total_steps // epochs
        rates = [self.rate_factor(i) * self.settings.learning_rate for i in range(self.total_steps)]
        return [sum(rates[e * per_epoch :][:per_epoch]) / per_epoch for e in range(epochs)]

    def configure_optimizers(self) -> Any:
        """AdamW with one group for the projector and one for the rest; cosine with warm-up."""
        s = self.settings
        groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for name, parameter in self.trained():
            groups[in_projector(name)].append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {"params": groups[False], "lr": s.learning_rate},
                {"params": groups[True], "lr": s.projector_learning_rate},
            ],
            weight_decay=s.weight_decay,
        )
        schedule = LambdaLR(optimizer, self.rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the frozen weights from a resume point."""
        names = {f"model.{name}" for name, _ in self.trained()}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a resume point that does not hold exactly what this run trains."""
        names = {f"model.{name}" for name, _ in self.trained()}
        if names != set(checkpoint["state_dict"]):
            raise DataError("the resume point holds other parameters; delete it and start again.")
