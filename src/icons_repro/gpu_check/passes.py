"""What the program does with a model, on made-up rows: gradients, extraction, training, answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader

from icons_repro.core.deterministic import same_bits
from icons_repro.core.settings import TrainerSettings, TrainSettings
from icons_repro.evaluation.generation import Decoding, new_tokens
from icons_repro.gpu_check.model import END, PAD, Rig
from icons_repro.gradients.collect import BatchRows, RowCollector
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.self_test import choose_attention
from icons_repro.gradients.writer import StoreWriter, open_writer
from icons_repro.models.answers import answer_losses
from icons_repro.models.batches import Batch
from icons_repro.models.lora import gradient_parameters
from icons_repro.models.trainer import quiet_trainer
from icons_repro.training.callbacks import AfterMicroBatch, LoraCheck, MicroBatch
from icons_repro.training.module import InstructionTuner

ALIKE = 0.99
"""Cosine that two bfloat16 passes of other shapes keep, at any depth."""


def taker(rig: Rig, model: PeftModel) -> PerSampleGradients:
    """Return what takes gradients as extraction does, with the self-test's attention kernel."""
    gradients = PerSampleGradients(model, gradient_parameters(model))
    if rig.attention is None:
        rig.attention = choose_attention(gradients, "bf16-mixed")
    gradients.attention = rig.attention
    return gradients


class Extraction:
    """Batches to rows, and rows to a store where one is given."""

    def __init__(self, rig: Rig, model: PeftModel, limits: TokenLimits | None = None) -> None:
        self.gradients = taker(rig, model)
        projection = rig.projection(self.gradients.layout)
        self._collector = RowCollector(self.gradients, projection, limits=limits)
        self._rig = rig
        self.dim = projection.dim

    def rows(self, batch: Batch) -> BatchRows:
        """Return a batch's rows."""
        with self._rig.autocast():
            return self._collector(batch)

    def writer(self, folder: Path, n_rows: int) -> StoreWriter:
        """Begin a store."""
        return open_writer(folder, n_rows=n_rows, dim=self.dim, identities={})

    def into(self, writer: StoreWriter, batches: Sequence[Batch]) -> None:
        """Fill a store."""
        for batch in batches:
            rows = self.rows(batch)
            writer.write(
                batch["positions"].cpu().numpy(), rows.values, rows.norms, rows.status.numpy()
            )
        writer.flush()


def forward_backward(rig: Rig, gradients: PerSampleGradients, batch: Batch) -> None:
    """Run the floor that extraction is measured by: the same pass, its gradients added up."""
    model = gradients.model
    model.requires_grad_(False)
    for parameter in gradients.parameters.values():
        parameter.requires_grad_(True)
    chosen = gradients.attention
    with nullcontext() if chosen is None else chosen.on(model):
        with rig.autocast():
            losses = answer_losses(model, batch)
        losses.sum().backward()
    model.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Trained:
    """What training told."""

    losses: list[float]
    """Of each step."""
    seconds: float
    """Of a step: the median, the first left out."""


class _Staying(SingleDeviceStrategy):
    """Leaves the model on its device at the end: 7B weights take a while to the CPU and back."""

    def teardown(self) -> None:
        self.precision_plugin.teardown()
        self.accelerator.teardown()  # type: ignore[union-attr]


class _Recorder(AfterMicroBatch):
    def __init__(self, rig: Rig) -> None:
        self.losses: list[torch.Tensor] = []
        self.times: list[float] = []
        self._rig = rig

    def after(self, trainer: L.Trainer, module: L.LightningModule, done: MicroBatch) -> None:
        self._rig.synchronize()
        self.times.append(time.perf_counter())
        self.losses.append(done.loss.detach())


def train(
    rig: Rig, model: PeftModel, batch: Batch, steps: int, deterministic: bool = True
) -> Trained:
    """Take optimizer steps on one batch with the program's own module, under bfloat16 autocast."""
    settings = TrainSettings(
        batch_size=len(batch["input_ids"]),
        micro_batch=len(batch["input_ids"]),
        learning_rate=rig.shape.rate,
        gradient_checkpointing=rig.shape.checkpointed,
    )
    recorder = _Recorder(rig)
    accelerator: Literal["gpu", "cpu"] = "gpu" if rig.device.type == "cuda" else "cpu"
    trainer = quiet_trainer(
        accelerator=accelerator,
        devices=1,
        strategy=_Staying(device=rig.device),
        precision="bf16-mixed",
        max_epochs=1,
        callbacks=[LoraCheck(), recorder],
        enable_progress_bar=False,
        plugins=[LightningEnvironment()],
    )
    batches: Any = [batch] * steps
    model.train()
    with same_bits(TrainerSettings(accelerator, deterministic=deterministic)):
        trainer.fit(InstructionTuner(model, settings, steps), DataLoader(batches, batch_size=None))
    model.eval()
    spans = [b - a for a, b in pairwise(recorder.times)]
    return Trained([float(loss) for loss in recorder.losses], statistics.median(spans))


def answers(model: nn.Module, prompts: dict[str, torch.Tensor], new: int) -> list[list[int]]:
    """Return the tokens that the model answers each prompt with, by the program's own decoding."""
    found = new_tokens(model, prompts, Decoding(max_new_tokens=new), PAD, END)
    return [[t for t in row if t != PAD] for row in found.tolist()]


def median_seconds(rig: Rig, work: Callable[[], object]) -> float:
    """Return how long something takes: the median of some rounds after one to warm up."""
    work()
    times = []
    for _ in range(rig.shape.rounds):
        rig.synchronize()
        start = time.perf_counter()
        work()
        rig.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def apart(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Return the largest relative difference of two batches' rows, and their smallest cosine.

    Rows come in parts `[B, *shape]`; nothing as long as a whole row is made.
    """
    off = squares = others = inner = torch.zeros((), dtype=torch.float64)
    for x, y in zip(a, b, strict=True):
        x, y = x.flatten(1).float(), y.flatten(1).float()
        off = off + (x - y).square().sum(1).double().cpu()
        squares = squares + x.square().sum(1).double().cpu()
        others = others + y.square().sum(1).double().cpu()
        inner = inner + (x * y).sum(1).double().cpu()
    largest = (off / others.clamp_min(1e-300)).sqrt().max()
    return float(largest), float((inner / (squares * others).sqrt().clamp_min(1e-300)).min())
