"""Run by test_extract: extracts a small store, is killed at given moments, and is run again.

    python kill_driver.py KILLED UNINTERRUPTED MOMENT...

Each moment is a number of marked rows at which a forked child that extracts into KILLED is sent
SIGKILL. The last run is left alone, and so is one into UNINTERRUPTED. Prints the number of rows
that each killed run left.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import lightning
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter

from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import build_projection
from icons_repro.gradients.writer import pending, remaining_batches
from icons_repro.models.lora import gradient_parameters

N_BATCHES = 24
torch.set_num_threads(1)


def plan() -> dict[tuple[int, ...], dict[str, torch.Tensor]]:
    """Return every batch by its positions: 24 batches of 5, positions dealt out like cards."""
    batches = {}
    for number in range(N_BATCHES):
        batch = batch_of(MIXED, dtype=torch.float32, seed=number)
        batch["positions"] = torch.arange(len(MIXED)) * N_BATCHES + number
        batches[tuple(batch["positions"].tolist())] = batch
    return batches


MODEL = with_adapter(small_llava(dtype=torch.float32))
BATCHES = plan()


def run(folder: Path) -> None:
    """Extract, or finish what an earlier run left."""
    gradients = PerSampleGradients(MODEL, gradient_parameters(MODEL))
    projection = build_projection(gradients.layout, dim=64)
    todo = [BATCHES[tuple(key)] for key in remaining_batches(folder, list(BATCHES))]
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    n_rows = N_BATCHES * len(MIXED)
    options = StoreOptions(n_rows=n_rows, flush_seconds=0)
    extract(gradients, projection, todo, folder, store=options, running=Running(trainer))


def run_and_kill(folder: Path, marked: int) -> int:
    """Extract in a child, kill it when `marked` rows are there; return how many were missing."""
    child = os.fork()
    if child == 0:
        try:
            run(folder)
        finally:
            os._exit(0)
    while True:
        done, _ = os.waitpid(child, os.WNOHANG)
        begun = (folder / "info.json").is_file()
        if done or (begun and N_BATCHES * len(MIXED) - len(pending(folder)) >= marked):
            break
        time.sleep(0.0005)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(pending(folder))


if __name__ == "__main__":
    killed, uninterrupted = Path(sys.argv[1]), Path(sys.argv[2])
    left = [run_and_kill(killed, int(moment)) for moment in sys.argv[3:]]
    sys.stdout.write(" ".join(str(n) for n in left) + "\n")
    run(killed)
    run(uninterrupted)
