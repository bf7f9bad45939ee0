"""The one LightningModule that trains: warm-up, fine-tuning, and the tiny base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from icons_repro.core.errors import DataError
from icons_repro.core.settings import TrainSettings
from icons_repro.models.answers import answer_logits
from icons_repro.models.batches import Batch, model_inputs
from icons_repro.models.lora import in_projector, projector, require_float32
from icons_repro.training.checkpoint import (
    count_batches,
    keep_trained,
    name_moments,
    require_trained,
)
from icons_repro.training.sharding import shard


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Return the factor on the learning rate at `step` of `total` (transformers' cosine)."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def rate_factor(settings: TrainSettings, steps: int) -> Callable[[int], float]:
    """Return the factor on all learning rates, by optimizer step from 0, of a run of `steps`."""
    warmup = math.ceil(settings.warmup_ratio * steps)
    return partial(cosine_with_warmup, total=steps, warmup=warmup)


def optimizer_of(groups: list[dict[str, Any]], settings: TrainSettings, steps: int) -> Any:
    """Return AdamW over parameter groups, and one cosine over `steps` for all their rates."""
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    schedule = LambdaLR(optimizer, rate_factor(settings, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def model_groups(
    trained: Iterable[tuple[str, nn.Parameter]], settings: TrainSettings
) -> list[dict[str, Any]]:
    """Return parameter groups: the projector at its own rate, all else at the other."""
    rest: list[nn.Parameter] = []
    projector: list[nn.Parameter] = []
    for name, parameter in trained:
        (projector if in_projector(name) else rest).append(parameter)
    return [
        {"params": rest, "lr": settings.learning_rate},
        {"params": projector, "lr": settings.projector_learning_rate},
    ]


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
        nothing = None if "pixel_values" in batch else self._of_no_image()
        logits, targets = answer_logits(self.model, model_inputs(batch), batch["labels"])
        loss = functional.cross_entropy(logits, targets)
        if not torch.isfinite(loss):
            rows = batch["positions"].tolist()
            raise DataError(
                f"the loss is {loss.item()} at step {self.global_step}, rows {rows}: look for rows "
                "whose answers are all cut away, or lower the learning rate."
            )
        return loss if nothing is None else loss + 0.0 * nothing

    def _of_no_image(self) -> Any:
        """Return a number that every trained weight has a part in.

        LLaVA's dummy image: times zero, the projector's gradient is zero, not absent, on any number
        of devices, so that Adam's moments move alike. A sharded projector runs, at its usual place
        before the language model: its devices gather and scatter it together.
        """
        if self.device_mesh is None:
            return sum(p.sum() for _, p in self.trained())
        module: Any = projector(self.model)
        return module(torch.zeros(1, 1, module.linear_1.in_features, device=self.device)).sum()

    def configure_model(self) -> None:
        """Spread the model over the devices, where the strategy is to."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def epoch_rates(self) -> list[float]:
        """Return the mean learning rate of each epoch, the weights of LESS's checkpoints."""
        epochs = self.settings.epochs
        per_epoch = self.total_steps // epochs
        factor = rate_factor(self.settings, self.total_steps)
        rates = [factor(i) * self.settings.learning_rate for i in range(self.total_steps)]
        return [sum(rates[e * per_epoch :][:per_epoch]) / per_epoch for e in range(epochs)]

    def configure_optimizers(self) -> Any:
        """AdamW with one group for the projector and one for the rest; cosine with warm-up."""
        groups = model_groups(self.trained(), self.settings)
        return optimizer_of(groups, self.settings, self.total_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the frozen weights from a resume point, and name what the optimizer knows."""
        names = {parameter: f"model.{name}" for name, parameter in self.trained()}
        keep_trained(checkpoint, names.values())
        groups = self.trainer.optimizers[0].param_groups
        name_moments(checkpoint, [names[p] for group in groups for p in group["params"]])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a resume point that does not hold exactly what this run trains.

        One of another number of devices has counted other micro-batches to the same step.
        """
        if "state_dict" in checkpoint:  # else a sharding strategy has taken it
            require_trained(checkpoint, (f"model.{name}" for name, _ in self.trained()))
        count_batches(checkpoint, self.trainer.accumulate_grad_batches)
