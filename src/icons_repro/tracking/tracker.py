"""One tracker for each experiment run.

`metrics.jsonl` in the run directory is the truth; W&B shows the same numbers to people. Nothing
that goes wrong with W&B loses a number or stops a run: it is one warning, and W&B is off.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from icons_repro.core.files import read_json_lines
from icons_repro.core.settings import LoggerSettings
from icons_repro.core.trees import flatten
from icons_repro.tracking.wandb import WandbRun

log = logging.getLogger(__name__)

SUMMARY = "summary"


class Tracker:
    """Writes `metrics.jsonl`, and mirrors it to W&B. Use it as a context manager."""

    def __init__(
        self,
        run_dir: Path,
        name: str,
        group: str,
        config: Mapping[str, Any],
        settings: LoggerSettings | None = None,
        job_type: str = "experiment",
    ) -> None:
        """Start a fresh metrics file in `run_dir`.

        `name` says what the run is ("icons-b0.2-s0"), `group` what it is compared with (the
        experiment or sweep). The W&B id follows from `group` and `run_dir`'s name alone, so
        running the same experiment again goes on in the same W&B run.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / "metrics.jsonl"
        self.path.write_text("")
        self._last_step: dict[str, int] = {}
        settings = settings or LoggerSettings(kind="none")
        self._wandb = WandbRun(run_dir, name, group, config, settings, job_type)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(failed=kind is not None)

    def step(self, stage: str, line: Mapping[str, float]) -> None:
        """Log one line of a stage's training metrics; it has `step`, counted within the stage.

        A line whose step was logged already is dropped, so a stage may be logged while it runs and
        replayed from its artifact afterwards.
        """
        step = int(line["step"])
        if step <= self._last_step.get(stage, -1):
            return
        self._last_step[stage] = step
        self._write(stage, line)
        self._wandb.log_step(stage, line)

    def replay(self, stage: str, metrics_file: Path) -> None:
        """Log a finished stage from its artifact's `metrics.jsonl`, cached or not.

        A missing file (a stage that trains nothing) is no error, nor is a last line that is cut.
        """
        for line in read_json_lines(metrics_file):
            self.step(stage, line)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Log final numbers; nested mappings become names with slashes."""
        flat = dict(flatten(values, "/"))
        self._write(SUMMARY, flat)
        self._wandb.summary(flat)

    def describe(self) -> dict[str, Any]:
        """Return what `results.json` says under `wandb`."""
        return self._wandb.describe()

    def finish(self, failed: bool = False) -> None:
        """Close W&B; safe to call twice."""
        self._wandb.finish(failed)

    def _write(self, stage: str, values: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")
