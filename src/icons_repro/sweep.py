"""The end of a sweep: one table, what failed and why, and the command that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from icons_repro.core.errors import UserError
from icons_repro.core.invocation import module_command, same_again
from icons_repro.pipeline import Job, Outcome
from icons_repro.report.cells import sweep_tables
from icons_repro.report.results import FILE
from icons_repro.report.runs import collect
from icons_repro.report.sweep import sweeps


def close_sweep(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Print the sweep's tables and its failures."""
    console = Console()
    folders = [Path(job.settings.paths.run) for job in jobs]
    finished = [
        folder
        for folder, outcome in zip(folders, outcomes, strict=True)
        if not isinstance(outcome, UserError) and (folder / FILE).is_file()
    ]
    if finished:
        console.print()
        for table in sweep_tables(sweeps(collect(finished)), console.width):
            table.show(console)
    _say_failures(jobs, outcomes, console)
    console.print("\n[bold]Files[/]")
    roots = sorted({str(folder.parent) for folder in folders})
    for root in roots:
        console.print(f"  {root}", markup=False, highlight=False, soft_wrap=True)
    console.print("\n[bold]Try next[/]")
    console.print(f"  {module_command('report')} {' '.join(roots)}", soft_wrap=True)


def _say_failures(jobs: Sequence[Job], outcomes: Sequence[Outcome], console: Console) -> None:
    failed = {
        Path(job.settings.paths.run).name: outcome
        for job, outcome in zip(jobs, outcomes, strict=True)
        if isinstance(outcome, UserError)
    }
    if not failed:
        return
    console.print(f"\n[bold red]{len(failed)} of {len(jobs)} runs failed[/]")
    causes: dict[str, list[str]] = {}
    for name, outcome in failed.items():
        causes.setdefault(str(outcome), []).append(name)
    for cause, names in causes.items():
        console.print(f"  {', '.join(names)}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"    {cause}", markup=False, highlight=False, soft_wrap=True)
    console.print("\nThe same command computes what is missing:")
    console.print(f"  {same_again()}", markup=False, highlight=False, soft_wrap=True)
