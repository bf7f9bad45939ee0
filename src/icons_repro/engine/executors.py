"""Which executor a config asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from icons_repro.core.errors import ConfigError
from icons_repro.core.machine import cores
from icons_repro.core.settings import ExecutorSettings
from icons_repro.engine.inline import InlineExecutor, OnMetrics
from icons_repro.engine.ledger import Ledger
from icons_repro.engine.local import LocalExecutor
from icons_repro.engine.resources import Resources, Table, local_gpus


class Executor(Protocol):
    """Works off a ledger."""

    def check(self, ledger: Ledger) -> None:
        """Raise `ConfigError` for what this machine or cluster cannot do, before work starts."""

    def run(self, ledger: Ledger) -> None:
        """Compute what is ready until nothing is; a failed step stops only what needs it."""


class NoExecutor:
    """Computes nothing: what is missing stays missing, and is said."""

    workers = 1

    def check(self, ledger: Ledger) -> None:
        """Nothing is asked of the machine."""

    def run(self, ledger: Ledger) -> None:
        """Leave everything as it is."""


def choose_executor(
    settings: ExecutorSettings,
    table: Table,
    workers: int | None,
    on_metrics: OnMetrics | None = None,
    preload: tuple[str, ...] = (),
) -> Executor:
    """Return the executor.

    `on_metrics` is told of training as it goes, by `inline` alone; `preload` are modules that
    processes of this machine find imported.
    """
    if settings.report_only:
        return NoExecutor()
    if settings.kind == "inline":
        return InlineExecutor(table, on_metrics)
    if settings.kind == "local":
        return LocalExecutor(table, workers or _local_workers(table), preload)
    try:
        from icons_repro.engine.slurm import SlurmExecutor
    except ImportError as error:
        raise ConfigError(
            f"executor=slurm needs submitit ({error}): pip install 'icons-repro[cluster]'"
        ) from error
    return SlurmExecutor(settings, table)


def _local_workers(table: Table) -> int:
    """One worker for each GPU, where the work wants GPUs; else one for each core it may use."""
    return max(1, len(local_gpus())) if any(row.gpus for row in table.values()) else cores()


def resolved(
    table: Mapping[str, Resources], groups: Mapping[str, int], on_gpu: bool, nodes: int
) -> dict[str, Resources]:
    """Fill in what the table leaves open: GPUs and nodes of each kind of work.

    `groups` maps every kind of work to the devices that it can use.
    """
    made = {}
    for name, devices in groups.items():
        row = table.get(name, Resources())
        gpus = row.gpus if row.gpus is not None else (devices if on_gpu else 0)
        made[name] = replace(row, gpus=gpus, nodes=max(row.nodes, nodes if devices > 1 else 1))
    return made
