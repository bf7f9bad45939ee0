"""Which target tasks a config draws from benchmarks, and from which files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import TargetSettings
from icons_repro.data.targets.build import choose_tasks
from icons_repro.data.targets.builders import BUILDERS


def drawn_targets(settings: TargetSettings) -> dict[str, Any]:
    """Return the fields of `data.stage.DrawnTargets`.

    Raises `ConfigError` if every task asked for publishes test rows alone.
    """
    sources = Path(str(settings.sources))
    tasks = choose_tasks(settings.build, settings.test_rows)
    tasks = [task for task in tasks if settings.tasks is None or task in settings.tasks]
    left_out = sorted(set(settings.tasks or settings.build) - set(tasks))
    if not tasks:
        raise ConfigError(
            f"no target is left of {left_out}: they publish test rows alone. targets.test_rows "
            "takes these all the same; see docs/running_the_paper.md."
        )

    def origin(task: str) -> Any:
        source = BUILDERS[task].rows
        return {p.name: p.stat().st_size for p in source.files(sources)} or source.name

    return {
        "rows": {task: settings.build[task] for task in tasks},
        "origin": {task: origin(task) for task in tasks},
        "seed": settings.seed,
        "sources": str(sources.absolute()),
        "left_out": tuple(left_out),
    }
