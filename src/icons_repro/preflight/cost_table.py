"""Print the cost of a run at the paper's scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from icons_repro.core.settings import TrainerSettings
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
    trainer: TrainerSettings,
    runs: int = 1,
    paper: bool = False,
    console: Console | None = None,
) -> None:
    """Print operations, bytes and hours by stage, memory by part, and what all of it assumes.

    `paper`: and what is known of the paper's own cost.
    """
    devices = trainer.devices * trainer.num_nodes
    console = console or Console()
    a = assumptions
    total = StageCost(
        "all", 0, None, sum(s.petaflops for s in stages), sum(s.disk_bytes for s in stages)
    )
    together = f" of {runs} runs, what they share once" if runs > 1 else ""
    for table in (_work(stages, total, together), _hours(stages, total)):
        console.print()
        console.print(table, highlight=False)
    console.print()
    console.print(
        f"Estimates by arithmetic, not measured. {a.rows:,} rows ({a.rows_from}), {a.tokens:,.0f} "
        f"tokens a sample ({a.tokens_from}); hours at {UTILISATION:.0%} of each device's dense "
        "bfloat16 peak (assumed). Evaluation, image decoding and what is no work of the model "
        "(clustering, scores) are not in it, nor what is cached already.",
        highlight=False,
    )
    if devices > 1:
        console.print(
            f"Wall time is about device-hours / {devices} with trainer.devices={devices}."
        )
    console.print(trained_text(n), highlight=False)
    console.print(memory_text(memory_by_part(n, trainer)), highlight=False)
    if paper:
        console.print(PAPER_COST, highlight=False)


def _work(stages: Sequence[StageCost], total: StageCost, together: str) -> Table:
    rows = tuple(
        (
            stage.stage,
            f"{stage.samples:,}" if stage.samples else "",
            f"{stage.steps:,}" if stage.steps is not None else "",
            f"{stage.petaflops:,.0f}",
            f"{stage.disk_bytes / 1e9:,.1f}" if stage.disk_bytes else "",
        )
        for stage in (*stages, total)
    )
    headings = ("stage", "samples", "steps", "PFLOP", "disk GB")
    return _table(f"Cost{together}: an estimate", headings, rows)


def _hours(stages: Sequence[StageCost], total: StageCost) -> Table:
    rows = tuple(
        (stage.stage, *(f"{hours(stage.petaflops, device):,.1f}" for device in DEVICES))
        for stage in (*stages, total)
    )
    return _table("Hours of one device", ("stage", *(d.name for d in DEVICES)), rows)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose numbers are never cut."""
    table = Table(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False,
        padding=(0, 2, 0, 0), collapse_padding=True, show_edge=False,
    )  # fmt: skip
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def trained_text(n: Counts) -> str:
    """Return how many weights are trained, and how many stay as they are."""
    return (
        f"LoRA trains {n.adapter:,} parameters and the projector {n.projector:,}; "
        f"{n.frozen:,} stay frozen."
    )


def memory_text(parts: Mapping[str, float]) -> str:
    """Return "17.1 GB a device before activations: 13.5 frozen weights, ..."."""
    listed = ", ".join(f"{size / 1e9:.1f} {name}" for name, size in parts.items())
    total = f"{sum(parts.values()) / 1e9:.1f} GB"
    return f"Training needs {total} a device before activations: {listed}."
