"""What each kind of work asks of the machine: one table, by the user's name for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step


@dataclass(frozen=True)
class Resources:
    """One row of the table. What is None is left to the executor."""

    gpus: int | None = None
    """GPUs of one node. None: those of the trainer's devices, where it is a GPU's."""
    cpus: int | None = None
    nodes: int = 1
    memory_gb: float | None = None
    hours: float | None = None
    """Time limit of one job of a cluster; work that reaches it saves and is queued again."""
    chunks: int = 1
    """Into how many parts shared work is cut, and how many jobs of a cluster fill it."""
    retries: int = 1
    """How often work that was killed (never work that failed) is tried again."""


Table = Mapping[str, Resources]


def of_step(table: Table, step: Step) -> Resources:
    """Return what a step asks for; no GPU where it has no use for one."""
    row = table.get(step.group, Resources())
    return row if step.on_device else replace(row, gpus=0)


def check_table(table: Iterable[str], groups: Iterable[str]) -> None:
    """Raise `ConfigError` for resources of work that does not exist."""
    known = sorted(set(groups))
    for name in table:
        if name not in known:
            raise ConfigError(f"resources.{name}: there is no such work; known: {known}.")


def check_gpus(table: Table, steps: Iterable[Step], available: int) -> None:
    """Raise `ConfigError` if a step asks for more GPUs than this machine has."""
    for step in steps:
        wanted = of_step(table, step).gpus or 0
        if wanted > available:
            raise ConfigError(
                f"resources.{step.group}.gpus={wanted}, but this machine has {available}: set it, "
                "trainer.devices or trainer=cpu."
            )


def local_gpus() -> list[str]:
    """Return the ids of this machine's GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.split(",") if device.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(found))] if listed.returncode == 0 else []
