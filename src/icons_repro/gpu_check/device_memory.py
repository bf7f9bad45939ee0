"""Is memory handled right on this device? Asked of a real allocator, with a real limit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from icons_repro.gpu_check.lines import Found, NotHereError
from icons_repro.gpu_check.model import Rig
from icons_repro.gpu_check.passes import ALIKE, Extraction, apart
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.store import RowStatus
from icons_repro.models.lora import checkpoint_layers

CHILD = """
import sys, torch
held = torch.ones(2**28, device=sys.argv[1])
torch.cuda.synchronize()
print("holding", flush=True)
sys.stdin.read()
"""
"""A process that takes a gibibyte and waits."""


def splits_when_out_of_memory(rig: Rig) -> Found:
    """A batch that does not fit under a cap is halved, and its rows are those of the whole."""
    if rig.device.type != "cuda":
        raise NotHereError("not on a CPU")
    rig.drop()
    model = rig.adapted()
    if rig.shape.checkpointed:
        checkpoint_layers(model.get_base_model())
    batch, half = (rig.rows((rig.shape.text,) * n) for n in (8, 4))
    try:
        whole = Extraction(rig, model)
        most, less = (_peak(rig, partial(whole.rows, b)) for b in (batch, half))
        wanted = whole.rows(batch)
        with tempfile.TemporaryDirectory() as folder:
            memory = Path(folder) / "memory.json"
            capped = Extraction(rig, model, TokenLimits(memory))
            rig.tidy()
            _cap(rig, (most + less) / 2)
            rows = capped.rows(batch)
            split = memory.is_file()
    finally:
        _cap(rig, None)
        rig.drop()  # its layers are checkpointed
    kept = int((rows.status == RowStatus.ok).sum())
    _, cosine = apart([rows.values.cpu()], [wanted.values.cpu()])
    note = f"cap {(most + less) / 2**31:.2f} GiB, {'split' if split else 'NOT split'}"
    passed = split and kept == len(rows.status) and cosine >= ALIKE
    return Found(cosine, f"smallest cosine, {kept} rows", passed, note)


def _peak(rig: Rig, work: Callable[[], object]) -> int:
    rig.tidy()
    rig.reset_peak()
    work()
    return rig.peak()


def _cap(rig: Rig, bytes_: float | None) -> None:
    total = torch.cuda.get_device_properties(rig.device).total_memory
    fraction = 1.0 if bytes_ is None else min(1.0, bytes_ / total)
    torch.cuda.set_per_process_memory_fraction(fraction, rig.device)


def a_child_gives_its_memory_back(rig: Rig) -> Found:
    """What a process took of the device is free again when it has ended."""
    if rig.device.type != "cuda":
        raise NotHereError("not on a CPU")
    rig.drop()
    before = _free(rig)
    command = [sys.executable, "-c", CHILD, str(rig.device)]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing) as child:
        try:
            holding = child.stdout is not None and child.stdout.readline() == b"holding\n"
            during = _free(rig)
        finally:
            child.kill()
    after = _free(rig)
    for _ in range(50):  # the driver may need a moment
        if before - after < 2**26:
            break
        time.sleep(0.1)
        after = _free(rig)
    took, left = (before - during) / 2**30, (before - after) / 2**20
    return Found(left, "MiB not given back", holding and took >= 1 and left < 64, f"{took:.2f} GiB")


def _free(rig: Rig) -> int:
    return torch.cuda.mem_get_info(rig.device)[0]
