"""The end of a sweep: one table, one page, what failed and why, and the command that goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from icons_repro.core.errors import UserError
from icons_repro.core.invocation import module_command, same_again
from icons_repro.pipeline import Job, Outcome
from icons_repro.report.cells import sweep_tables
from icons_repro.report.inventory import CONFIG
from icons_repro.report.results import FILE
from icons_repro.report.runs import collect
from icons_repro.report.sweep import sweeps
from icons_repro.report.sweep_page import FILE as PAGE
from icons_repro.report.sweep_page import write_sweep_page


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
    roots = sorted({str(folder.parent) for folder in folders if folder.is_dir()})
    if not roots:  # a plan
        return
    console.print("\n[bold]Files[/]")
    for root in (*_page(folders, len(finished) < len(folders)), *roots):
        console.print(f"  {root}", markup=False, highlight=False, soft_wrap=True)
    console.print("\n[bold]Try next[/]")
    console.print(f"  {module_command('report')} {' '.join(roots)}", soft_wrap=True)


def _page(folders: Sequence[Path], unfinished: bool) -> list[str]:
    """Write the sweep's page beside its runs, and return its path; a plan alone leaves none."""
    begun = [folder for folder in folders if (folder / CONFIG).is_file()]
    if not begun:
        return []
    path = Path(os.path.commonpath([folder.parent for folder in folders])) / PAGE
    return [str(write_sweep_page(path, begun, same_again() if unfinished else ""))]


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
