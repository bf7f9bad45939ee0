"""What a run would do: every step, whether it is there, and why not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step, ordered
from icons_repro.engine.ledger import Ledger
from icons_repro.experiment import Experiment
from icons_repro.preflight.run_cost import print_run_costs

log = logging.getLogger(__name__)


def plan_runs(experiments: Sequence[Experiment]) -> None:
    """Print every step of the runs' union; at the paper's scale, first what each would cost."""
    goals: list[Step] = []
    for experiment in experiments:
        if experiment.config.scale == "paper":
            print_run_costs(experiment.config, experiment.graph, experiment.cache)
            try:
                goals += experiment.goals()
            except ConfigError as error:
                log.warning("the steps cannot be named before the files are there: %s", error)
        else:
            goals += experiment.goals()
    if goals:
        print_plan(goals, experiments[0].cache)


def print_plan(goals: Sequence[Step], cache: Cache) -> None:
    """Print one row for each step: cached (and what it took), to run (and why), or not needed."""
    missing = Ledger(goals, cache).needed
    table = Table(title=f"Plan, cache {cache.root}")
    for column in ("stage", "what", "fingerprint", "state", "why"):
        whole = column in ("fingerprint", "state")  # to be searched for: never in two lines
        table.add_column(column, overflow="fold", no_wrap=whole)
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
