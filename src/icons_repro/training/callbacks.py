"""What a training run tells the world: one line of metrics for each optimizer step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from peft import PeftModel

from icons_repro.core.artifacts import OnMetrics
from icons_repro.training.checkpoint import epoch_folder, save_adapter
from icons_repro.training.module import InstructionTuner


class MetricsWriter(L.Callback):
    """Append `{"step", "loss", "learning_rate", "samples_per_second"}` to a JSON-lines file.

    The loss of a step is the mean over its accumulated micro-batches. On resuming, lines after the
    resume point are dropped, so that each step has one line.
    """

    def __init__(self, path: Path, on_metrics: OnMetrics | None = None) -> None:
        self.path = path
        self.on_metrics = on_metrics
        self._losses: list[float] = []
        self._samples = 0
        self._clock = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock; keep only lines of steps already done."""
        self._clock = time.perf_counter()
        if trainer.is_global_zero:
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            kept = [line for line in lines if json.loads(line)["step"] <= trainer.global_step]
            self.path.write_text("".join(f"{line}\n" for line in kept))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a line if this micro-batch ended an optimizer step."""
        self._losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))
        self._samples += len(batch["positions"]) * trainer.world_size
        accumulate = trainer.accumulate_grad_batches
        if (batch_idx + 1) % accumulate and batch_idx + 1 < trainer.num_training_batches:
            return
        now = time.perf_counter()
        line: dict[str, float] = {
            "step": trainer.global_step,
            "loss": sum(self._losses) / len(self._losses),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": self._samples / max(now - self._clock, 1e-9),
        }
        self._losses, self._samples, self._clock = [], 0, now
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if self.on_metrics:
                self.on_metrics(line)


class EpochAdapters(L.Callback):
    """Write the adapter at the end of every epoch but the last, whose adapter is the run's own."""

    def __init__(self, out: Path, epochs: int, steps: int) -> None:
        self.folders = {steps // epochs * n: epoch_folder(out, n) for n in range(1, epochs)}

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save after the optimizer step that ends an epoch; a resumed run writes the same again."""
        assert isinstance(module, InstructionTuner)
        assert isinstance(module.model, PeftModel)
        ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        folder = self.folders.get(trainer.global_step)
        if folder and ended and trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            about = {"steps": trainer.global_step}
            save_adapter(module.model, module.trained(), trainer.optimizers[0], folder, about)


class LoraCheck(L.Callback):
    """Check once that every LoRA B matrix gets a gradient; one frozen by accident stays zero."""

    def __init__(self) -> None:
        self._done = False

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Raise `RuntimeError` naming the parameters without gradient at the first step."""
        if self._done:
            return
        self._done = True
        dead = [
            name
            for name, p in module.named_parameters()
            if p.requires_grad and ".lora_B." in name and (p.grad is None or not p.grad.any())
        ]
        if dead:
            raise RuntimeError(
                f"{len(dead)} LoRA B matrices got no gradient at the first step, {dead[0]} first. "
                "With gradient checkpointing on, the inputs must require gradients."
            )
