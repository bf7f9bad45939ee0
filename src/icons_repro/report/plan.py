"""What a run would do: every step, whether it is there, and why not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from icons_repro.core.artifacts import ArtifactCache, Step


def ordered(goals: Sequence[Step]) -> list[Step]:
    """Return the goals and all they read, inputs first, each once."""
    seen: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.fingerprint in seen:
            return
        for upstream in step.inputs.values():
            visit(upstream)
        seen.setdefault(step.fingerprint, step)

    for goal in goals:
        visit(goal)
    return list(seen.values())


def needed(goals: Sequence[Step], cache: ArtifactCache) -> set[str]:
    """Return the fingerprints of the steps that would be computed."""
    missing: set[str] = set()

    def visit(step: Step) -> None:
        if step.fingerprint in missing or cache.is_ready(step):
            return
        missing.add(step.fingerprint)
        for upstream in step.inputs.values():
            visit(upstream)

    for goal in goals:
        visit(goal)
    return missing


def print_plan(goals: Sequence[Step], cache: ArtifactCache) -> None:
    """Print one row for each step: cached (and what it took), to run (and why), or not needed."""
    missing = needed(goals, cache)
    table = Table(title=f"Plan, cache {cache.root}")
    for column in ("stage", "what", "fingerprint", "state", "why"):
        table.add_column(column, overflow="fold")
    for step in ordered(goals):
        if cache.is_ready(step):
            seconds = cache.manifest(step)["seconds"]
            table.add_row(
                step.stage, step.label, step.fingerprint, "[green]cached", f"took {seconds:.1f} s"
            )
        elif step.fingerprint in missing:
            table.add_row(
                step.stage, step.label, step.fingerprint, "[yellow]run", cache.why_missing(step)
            )
        else:
            table.add_row(
                step.stage, step.label, step.fingerprint, "not needed", "what reads it is cached"
            )
    console = Console()
    console.print(table)
    console.print(f"{len(missing)} of {len(ordered(goals))} steps would run.")
