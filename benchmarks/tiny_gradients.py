"""Real gradients to measure fidelity on: the tiny world's rows after a warm-up of its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from icons_repro.core.settings import DataSettings, LoraSettings, RecordPolicy
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.data.records import build_records
from icons_repro.data.target_tasks import build_targets, find_tasks
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.models.answers import answer_losses
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, gradient_parameters
from icons_repro.tiny.model import write_tiny_base
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.world import build_world

LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class RealGradients:
    """Unprojected gradients of a pool and of every target task's validation rows."""

    train: torch.Tensor
    """float32 `[N, D]`."""
    validation: dict[str, torch.Tensor]
    """float32 `[M, D]` by task."""
    layout: ParameterLayout


class TinyWorld:
    """A small world on disk, with its base model."""

    def __init__(self, folder: Path, rows: int, validation_rows: int) -> None:
        settings = WorldSettings(pool_size=rows, validation_rows=validation_rows, test_rows=20)
        build_world(folder / "world", settings)
        write_tiny_base(folder / "base")
        self._folder = folder
        self._images = folder / "world" / "images"
        targets = folder / "world" / "targets"
        (folder / "pool").mkdir()
        build_records(folder / "world" / "pool.json", self._images, folder / "pool", RecordPolicy())
        self._tasks = find_tasks(targets, None)
        build_targets(targets, self._images, self._tasks, folder, RecordPolicy())

    def gradients(self, warmup_steps: int, rank: int = 8) -> RealGradients:
        """Train a fresh adapter for some steps, then take every row's gradient."""
        torch.manual_seed(0)
        base = load_model(self._folder / "base")
        model = attach_lora(base, LoraSettings(rank, 2 * rank, 0.0))
        pool = self._loader("pool")
        _warm_up(model, pool, warmup_steps)
        gradients = PerSampleGradients(model, gradient_parameters(model))
        validation = {task: _rows(gradients, self._loader(task)) for task in self._tasks}
        return RealGradients(_rows(gradients, pool), validation, gradients.layout)

    def _loader(self, name: str) -> DataLoader:
        settings = DataSettings(max_length=128)
        dataset, collate = open_dataset(
            self._folder / name, self._images, self._folder / "base", settings
        )
        every = torch.arange(len(dataset)).numpy()
        batches = PassPlan.of(dataset, collate, every, token_budget=512)
        return batches.loader(batches.chunk_names(1)[0])


def _warm_up(model: torch.nn.Module, loader: DataLoader, steps: int) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    batches = list(loader)
    order = torch.randperm(len(batches)).tolist()
    for step in range(steps):
        answer_losses(model, batches[order[step % len(order)]]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _rows(gradients: PerSampleGradients, loader: DataLoader) -> torch.Tensor:
    rows = torch.zeros(len(loader.dataset), gradients.layout.dim)  # type: ignore[arg-type]
    for batch in loader:
        parts, _ = gradients(batch)
        rows[batch["positions"]] = torch.cat([part.flatten(1) for part in parts], dim=1)
    return rows
