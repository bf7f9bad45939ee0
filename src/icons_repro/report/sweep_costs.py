"""What the runs of a sweep cost, stage by stage, and what sharing saved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icons_repro.report.lines import FULL, RANDOM
from icons_repro.report.runs import SweepRun

NOT_CHOOSING = {"world", "pool", "base", "targets", "finetune", "evaluate", "export"}
"""Stages that every method needs, or that come after the choice."""
REFERENCES = (f"_{FULL}", f"_{RANDOM}")
"""How the stages of what a run is compared with end."""


def choosing_seconds(run: SweepRun) -> float:
    """Return the seconds of the steps that only the choice of rows needed."""
    return sum(
        float(stage["seconds"])
        for name, stage in run.results.stages.items()
        if not name.endswith(REFERENCES) and name.split("_pretrain")[0] not in NOT_CHOOSING
    )


@dataclass
class StageUse:
    """One stage over all runs."""

    steps: set[str]
    computed: set[str]
    """Those of them that these runs did not find in the cache."""
    uses: int = 0
    spent: float = 0.0
    """Seconds of what was computed."""
    asked: float = 0.0
    """Seconds, had every run computed its own."""


def stage_table(runs: Sequence[SweepRun]) -> tuple[Sequence[str], list[list[Any]]]:
    """Return a table of stages: steps, how often they were used, and what sharing saved."""
    found: dict[str, StageUse] = defaultdict(lambda: StageUse(set(), set()))
    for run in runs:
        for name, stage in run.results.stages.items():
            own = name.removesuffix(REFERENCES[0]).removesuffix(REFERENCES[1])
            _add(found[own], stage)
    rows: list[list[Any]] = []
    for name, use in found.items():
        hits = use.uses - len(use.computed)
        saved = use.asked - use.spent
        rows.append([
            name,
            *({"text": f"{n:,}", "sort": n} for n in (len(use.steps), use.uses, hits)),
            *({"text": f"{s:,.1f}", "sort": round(s, 3)} for s in (use.spent, saved)),
        ])  # fmt: skip
    head = ["stage", "steps", "times used", "cache hits", "seconds computed", "seconds saved"]
    return head, rows


def _add(use: StageUse, stage: Any) -> None:
    seconds = float(stage["seconds"])
    use.steps.add(stage["fingerprint"])
    use.uses += 1
    use.asked += seconds
    if not stage["cached"] and stage["fingerprint"] not in use.computed:
        use.computed.add(stage["fingerprint"])
        use.spent += seconds
