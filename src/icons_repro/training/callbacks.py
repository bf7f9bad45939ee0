"""What a training run tells the world: one line of metrics for each optimizer step."""

from __future__ import annotations

import json
import signal
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from peft import PeftModel

from icons_repro.core.errors import ConfigError
from icons_repro.core.files import read_json_lines
from icons_repro.core.stop import Stopped, asked_to_stop, heed_signals
from icons_repro.core.work import OnMetrics
from icons_repro.training.checkpoint import epoch_folder, point_folder, save_adapter
from icons_repro.training.module import InstructionTuner
from icons_repro.training.sharding import whole


@dataclass(frozen=True)
class MicroBatch:
    """One that was just trained on."""

    loss: torch.Tensor
    """What was run backward from: Lightning has divided it by the micro-batches of a step."""
    rows: int
    fills_step: bool
    """Whether it was the last of a whole optimizer step."""
    last: bool
    """Whether it was the run's last: its step may be of fewer micro-batches."""


class AfterMicroBatch(L.Callback):
    """Hears of every micro-batch; subclasses say what they do `after` it."""

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Tell `after`."""
        done = MicroBatch(
            loss=outputs["loss"] if isinstance(outputs, dict) else outputs,
            rows=len(batch["positions"]),
            fills_step=(batch_idx + 1) % trainer.accumulate_grad_batches == 0,
            last=batch_idx + 1 >= trainer.num_training_batches,
        )
        self.after(trainer, module, done)

    @abstractmethod
    def after(self, trainer: L.Trainer, module: L.LightningModule, done: MicroBatch) -> None:
        """Do what is to be done."""


class MetricsWriter(AfterMicroBatch):
    """Append `{"step", "loss", "learning_rate", "samples_per_second"}` to a JSON-lines file.

    The loss of a step is the mean over its micro-batches, accumulated ones and those of all ranks.
    On resuming, lines after the resume point are dropped, and one that was cut, so that each step
    has one line.
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
            lines = read_json_lines(self.path)
            kept = [json.dumps(line) for line in lines if line["step"] <= trainer.global_step]
            self.path.write_text("".join(f"{line}\n" for line in kept))

    def after(self, trainer: L.Trainer, module: L.LightningModule, done: MicroBatch) -> None:
        """Write a line if this micro-batch ended an optimizer step."""
        self._losses.append(float(done.loss) * trainer.accumulate_grad_batches)
        self._samples += done.rows * trainer.world_size
        if not (done.fills_step or done.last):
            return
        now = time.perf_counter()
        line: dict[str, float] = {
            "step": trainer.global_step,
            "loss": _mean_over_ranks(sum(self._losses) / len(self._losses), trainer),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": self._samples / max(now - self._clock, 1e-9),
        }
        self._losses, self._samples, self._clock = [], 0, now
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if self.on_metrics:
                self.on_metrics(line)


def _mean_over_ranks(value: float, trainer: L.Trainer) -> float:
    if trainer.world_size == 1:
        return value
    mine = torch.tensor(value, device=trainer.strategy.root_device, dtype=torch.float32)
    return float(trainer.strategy.reduce(mine, reduce_op="mean"))


class KeptAdapters(AfterMicroBatch):
    """Write the adapter as it stands after some optimizer steps, each into a folder of its own."""

    def __init__(self, folders: Mapping[int, Path]) -> None:
        """`folders`: where, by the number of steps done."""
        self.folders = folders

    @classmethod
    def of_epochs(cls, out: Path, epochs: int, steps: int) -> KeptAdapters:
        """At the end of every epoch but the last, whose adapter is the run's own."""
        return cls({steps // epochs * n: epoch_folder(out, n) for n in range(1, epochs)})

    @classmethod
    def of_points(cls, out: Path, points: int, steps: int) -> KeptAdapters:
        """At the ends of `points` equal parts of the run but the last, whose adapter is its own.

        Raises `ConfigError` for a run of fewer steps than points.
        """
        if steps < points:
            raise ConfigError(
                f"the run over the whole pool has {steps} step(s), and its adapter is wanted at "
                f"{points} points: lower features.trajectory_points."
            )
        return cls({steps * n // points: point_folder(out, n) for n in range(1, points)})

    def after(self, trainer: L.Trainer, module: L.LightningModule, done: MicroBatch) -> None:
        """Save if this was such a step; a resumed run writes the same again."""
        assert isinstance(module, InstructionTuner)
        assert isinstance(module.model, PeftModel)
        folder = self.folders.get(trainer.global_step)
        if folder and done.fills_step:
            about = {"steps": trainer.global_step}
            optimizer, writes = trainer.optimizers[0], trainer.is_global_zero
            save_adapter(module.model, module.trained(), optimizer, folder, about, writes)


class ResumePoints(AfterMicroBatch):
    """Write a resume point every so often, and when the process is told to stop; then stop.

    Only whole optimizer steps are kept. A signal reaches ranks at different steps, so they agree
    before each one: whoever wants to save, all save.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._written = 0.0

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count micro-batches anew: another number of devices takes others to a step."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * trainer.accumulate_grad_batches
        more = done - progress["current"]["ready"]
        for counts in (progress["total"], progress["current"]):
            counts.update({name: count + more for name, count in counts.items()})

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock, and take the signals back from Lightning."""
        self._written = time.monotonic()
        heed_signals()

    def after(self, trainer: L.Trainer, module: L.LightningModule, done: MicroBatch) -> None:
        """Save if it is time, or if a signal came."""
        if not done.fills_step:
            return
        stop = asked_to_stop() is not None
        due = time.monotonic() - self._written > self.seconds
        if not _any_rank(stop or due, trainer):
            return
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()
        if _any_rank(stop, trainer):
            raise Stopped(asked_to_stop() or signal.SIGTERM)


def _any_rank(wish: bool, trainer: L.Trainer) -> bool:
    if trainer.world_size == 1:
        return wish
    return bool(trainer.strategy.reduce_boolean_decision(wish, all=False))


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
            if p.requires_grad
            and ".lora_B." in name
            and (p.grad is None or not whole(p.grad).any())
        ]
        if dead:
            raise RuntimeError(
                f"{len(dead)} LoRA B matrices got no gradient at the first step, {dead[0]} first. "
                "With gradient checkpointing on, the inputs must require gradients."
            )
