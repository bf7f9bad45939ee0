"""What a run would do: every step, whether it is there, and why not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step, ordered
from icons_repro.engine.ledger import Ledger
from icons_repro.experiment import Experiment
from icons_repro.preflight.missing import why_missing
from icons_repro.preflight.run_cost import has_sizes, print_run_costs
from icons_repro.training.stage import check_batches

log = logging.getLogger(__name__)
LABEL = len("random 0.2, seed 0")
"""Up to the name of a plain choice, the second column is not folded on a narrow terminal."""
NO_SIZE = "the size of a model is not known (docs/models.md)"


def plan_runs(experiments: Sequence[Experiment]) -> None:
    """Print every step of the runs' union; at the paper's scale, first what all would cost."""
    goals: list[Step] = []
    unnamed: dict[str, None] = {}
    sized = [e for e in experiments if has_sizes(e.config)]
    try:
        print_run_costs(sized)
    except ConfigError as error:
        unnamed[f"there is no cost to show: {error}"] = None
    for experiment in experiments:
        if experiment.config.scale == "paper" and experiment not in sized:
            unnamed[f"there is no cost to show: {NO_SIZE}"] = None
        try:
            goals += experiment.goals()
        except ConfigError as error:
            if experiment.config.scale != "paper":
                raise
            unnamed[f"the steps cannot be named before the files are there: {error}"] = None
    for reason in unnamed:
        log.warning("%s", reason)
    if goals:
        print_plan(goals, experiments[0].cache)


def print_plan(goals: Sequence[Step], cache: Cache, console: Console | None = None) -> None:
    """Print one row for each step: cached (and what it took), to run (and why), or not needed."""
    missing = Ledger(goals, cache).needed
    check_batches(missing.values())
    why_not = why_missing(missing.values(), cache)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    longest = max((len(step.label) for step in ordered(goals)), default=0)
    for column in ("stage", "what", "fingerprint", "state", "why"):
        whole = column in ("fingerprint", "state")  # to be searched for: never in two lines
        short = column == "what" and longest <= LABEL
        table.add_column(column, overflow="fold", no_wrap=whole or short)
    for step in ordered(goals):
        if cache.is_ready(step):
            state, why = "[green]cached", f"took {cache.manifest(step)['seconds']:.1f} s"
        elif step.fingerprint in missing:
            state, why = "[yellow]run", why_not[step.fingerprint]
        else:
            state, why = "not needed", "what reads it is cached"
        table.add_row(step.stage, Text(step.label), step.fingerprint, state, Text(why))
    console = console or Console()
    console.print(Text(f"Plan, cache {cache.root}"), soft_wrap=True)  # a path is never cut
    console.print(table)
    console.print(f"{len(missing)} of {len(ordered(goals))} steps would run.")
