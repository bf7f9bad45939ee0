"""What training on a random subset did to each target task, one line of `losses.csv`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.files import read_json
from icons_repro.report.runs import SweepRun

FILE = "losses.csv"


@dataclass(frozen=True)
class Loss:
    """What one training did to one target task."""

    pool: str
    selection: str
    """Fingerprint of the subset."""
    train_seed: int
    task: str
    loss: float


def measure(run: SweepRun, targets: Path, device: str = "cpu") -> dict[str, float]:
    """Return the mean answer loss of each target task under a run's model, in nats.

    `targets` is a finished step's folder with one records folder for each task.
    """
    import torch

    from icons_repro.core.settings import DataSettings
    from icons_repro.data.datamodule import PassPlan, open_dataset
    from icons_repro.models.answers import answer_losses
    from icons_repro.models.llava import load_model
    from icons_repro.models.lora import load_adapter

    adapter = run.located(run.results.adapter or "")
    made: Any = read_json(adapter / "manifest.json")
    base = adapter.parent.parent / "base" / made["inputs"]["base"]
    encoding = DataSettings(**made["config"]["encoding"])
    dtype = getattr(torch, made["config"]["trainer"]["model_dtype"])
    model = load_adapter(load_model(base, dtype, device), adapter).eval()
    found = {}
    for task in sorted(path.parent for path in targets.glob("*/records.arrow")):
        dataset, collate = open_dataset(task, targets / "images", base, encoding)
        rows = np.flatnonzero(dataset.table.usable)
        batches = PassPlan.of(dataset, collate, rows, token_budget=8192)
        with torch.inference_mode():
            losses = [answer_losses(model, b) for b in batches.loader("00000-of-00001")]
        found[task.name] = float(torch.cat(losses).double().mean())
    return found
