"""Whether this machine has the packages, the disk, the memory and the devices for a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from icons_repro.core.device import bfloat16_problem
from icons_repro.core.machine import SHARED, memory
from icons_repro.core.provenance import versions
from icons_repro.core.settings import TrainerSettings
from icons_repro.preflight.findings import Finding

REQUIRED = ("torch", "transformers", "peft", "lightning")
SHARED_BY_NCCL = 1e9
"""Bytes that NVIDIA's guide gives a container (NCCL, Troubleshooting, shared memory)."""


def check_versions() -> list[Finding]:
    """Say which versions a run would use; a missing package is a problem."""
    found = versions()
    missing = [name for name in REQUIRED if found[name] == "not installed"]
    if missing:
        return [Finding("problem", "versions", f"not installed: {missing}", "make setup")]
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    return [Finding("ok", "versions", text)]


def check_disk(folder: Path, needs: Mapping[str, float]) -> list[Finding]:
    """Compare free bytes at `folder` with the sum of what each stage writes."""
    there = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    free, total = shutil.disk_usage(there).free, sum(needs.values())
    said = ", ".join(f"{stage} {size / 1e9:.1f}" for stage, size in needs.items() if size)
    text = f"{free / 1e9:.0f} GB free at {there}; the run writes about {total / 1e9:.1f} ({said})"
    if free < total:
        return [Finding("problem", "disk", text, "free some, or set ICONS_OUTPUT to a larger disk")]
    return [Finding("ok", "disk", text)]


def check_memory(bytes_needed: float) -> list[Finding]:
    """Compare the memory that this process may have with what loading the base takes."""
    total = memory()
    text = f"{total / 1e9:.0f} GB; loading the base takes about {bytes_needed / 1e9:.0f}"
    if total < bytes_needed:
        return [
            Finding("problem", "memory", text, "take a machine, or ask the scheduler, for more")
        ]
    return [Finding("ok", "memory", text)]


def check_devices(trainer: TrainerSettings, needs: Mapping[str, float]) -> list[Finding]:
    """Look for the devices that the trainer names, and for their memory.

    `needs` are bytes on one device by kind of work, without activations; empty where not known.
    """
    if trainer.accelerator not in ("gpu", "cuda"):
        return [Finding("ok", "devices", f"trainer.accelerator={trainer.accelerator}")]
    import torch

    count = torch.cuda.device_count()
    if count < trainer.devices:
        text = f"{count} of the {trainer.devices} GPU(s) that trainer.devices asks for"
        return [Finding("problem", "devices", text, "run this on a GPU node, or trainer=cpu")]
    smallest = min(torch.cuda.get_device_properties(i).total_memory for i in range(count))
    text = f"{count} GPU(s) of {smallest / 1e9:.0f} GB"
    if needs:
        most = max(needs, key=lambda work: needs[work])
        text += f"; {most} takes {needs[most] / 1e9:.0f} before activations"
        if smallest < needs[most]:
            remedy = "take larger devices or a smaller model"
            remedy += "" if most == "evaluation" else ", or trainer.bits=4"
            return [Finding("problem", "devices", text, remedy)]
    if problem := bfloat16_problem(trainer):
        return [Finding("problem", "devices", problem, "another GPU, or float32")]
    return [Finding("ok", "devices", text)]


def check_shared_memory(trainer: TrainerSettings, folder: Path = SHARED) -> list[Finding]:
    """Look whether NCCL has room where the devices of a node exchange what they have."""
    if trainer.accelerator not in ("gpu", "cuda") or trainer.devices < 2 or not folder.is_dir():
        return []
    size = shutil.disk_usage(folder).total
    text = f"{size / 1e6:,.0f} MB at {folder}, which NCCL's processes share"
    if size < SHARED_BY_NCCL:
        return [Finding("warning", "shared memory", text, "docker run --shm-size=1g or --ipc=host")]
    return [Finding("ok", "shared memory", text)]


def check_lmms_eval() -> list[Finding]:
    """Say whether the evaluate stage has its package."""
    try:
        return [Finding("ok", "lmms-eval", metadata.version("lmms-eval"))]
    except metadata.PackageNotFoundError:
        return [Finding("problem", "lmms-eval", "not installed", "make setup")]
