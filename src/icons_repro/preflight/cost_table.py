"""Print the cost of a run at the paper's scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from icons_repro.preflight.cost import (
    DEVICES,
    UTILISATION,
    Counts,
    StageCost,
    hours,
    memory_by_part,
)

PAPER_COST = (
    "What is known of the paper's own cost: its gradient script asks for 200 jobs of at most one "
    "hour on one A6000, so at most 200 GPU-hours; a later paper (MAGIC, Table 5, second-hand) "
    "gives 50 GPU-hours for selection, 66 end to end, 10 for fine-tuning on 20%, 68 to 76 on all "
    "rows. The paper's own figure could not be verified."
)


@dataclass(frozen=True)
class Assumptions:
    """What the estimate stands on, said beside it."""

    rows: int
    rows_from: str
    """Where the number of rows comes from."""
    tokens: float
    tokens_from: str


def print_costs(
    stages: Sequence[StageCost],
    n: Counts,
    assumptions: Assumptions,
    devices: int,
    console: Console | None = None,
) -> None:
    """Print operations, bytes and hours by stage, memory by part, and what all of it assumes."""
    console = console or Console()
    a = assumptions
    for table in (_work(stages), _hours(stages)):
        console.print(table)
    console.print(
        f"Estimates by arithmetic, not measured. {a.rows:,} rows ({a.rows_from}), {a.tokens:,.0f} "
        f"tokens a sample ({a.tokens_from}); hours at {UTILISATION:.0%} of each device's dense "
        "bfloat16 peak (assumed). Evaluation and image decoding are not in it.",
        highlight=False,
    )
    if devices > 1:
        console.print(
            f"Wall time is about device-hours / {devices} with trainer.devices={devices}."
        )
    console.print(trained_text(n), highlight=False)
    console.print(memory_text(memory_by_part(n)), highlight=False)
    console.print(PAPER_COST, highlight=False)


def _work(stages: Sequence[StageCost]) -> Table:
    """Return what each stage does; like `_hours`, at most 80 columns wide."""
    headings = ("samples", "steps", "PFLOP", "disk, GB")
    table = _table("Cost at the paper's scale: an estimate", headings)
    for stage in _with_sum(stages):
        table.add_row(
            stage.stage,
            f"{stage.samples:,}" if stage.samples else "",
            f"{stage.steps:,}" if stage.steps is not None else "",
            f"{stage.petaflops:,.0f}",
            f"{stage.disk_bytes / 1e9:,.1f}" if stage.disk_bytes else "",
        )
    return table


def _hours(stages: Sequence[StageCost]) -> Table:
    """Return each stage's device-hours, one column a device."""
    table = _table("The same in device-hours", [device.name for device in DEVICES])
    for stage in _with_sum(stages):
        cells = (f"{hours(stage.petaflops, device):,.1f}" for device in DEVICES)
        table.add_row(stage.stage, *cells)
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    """Return a table whose figures are never cut: only its headings may be folded."""
    table = Table(title=title, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", min_width=9, overflow="fold")
    return table


def _with_sum(stages: Sequence[StageCost]) -> list[StageCost]:
    petaflops = sum(stage.petaflops for stage in stages)
    return [*stages, StageCost("all", 0, None, petaflops, sum(s.disk_bytes for s in stages))]


def trained_text(n: Counts) -> str:
    """Return how many weights are trained, and how many stay as they are."""
    return (
        f"LoRA trains {n.adapter:,} parameters and the projector {n.projector:,}; "
        f"{n.frozen:,} stay frozen."
    )


def memory_text(parts: Mapping[str, float]) -> str:
    """Return "17.1 GB a device before activations: 13.5 frozen weights, ..."."""
    listed = ", ".join(f"{size / 1e9:.1f} {name}" for name, size in parts.items())
    return f"Training needs {sum(parts.values()) / 1e9:.1f} GB before activations: {listed}."
