"""One tracker for each experiment run.

`metrics.jsonl` in the run directory is the truth; loggers show the same numbers to people. Nothing
that goes wrong with one loses a number or stops a run: it is one warning, and the logger is off.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from icons_repro.core.files import read_json_lines
from icons_repro.core.settings import LoggerSettings
from icons_repro.core.trees import flatten
from icons_repro.tracking.about import About, Product, Sheet
from icons_repro.tracking.mirrors import open_mirrors

SUMMARY = "summary"
FILE = "metrics.jsonl"


class Tracker:
    """Writes `metrics.jsonl`, and shows it to the chosen loggers. Use it as a context manager."""

    def __init__(
        self,
        about: About,
        settings: LoggerSettings | None = None,
        not_shown: Collection[str] = (),
    ) -> None:
        """Start a fresh metrics file in the run's folder.

        Stages in `not_shown` are kept in the file alone: another run shows them.
        """
        about.folder.mkdir(parents=True, exist_ok=True)
        self.path = about.folder / FILE
        self.path.write_text("")
        self._last_step: dict[str, int] = {}
        self._not_shown = frozenset(not_shown)
        self._mirrors = open_mirrors(about, settings or LoggerSettings())

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
        if stage not in self._not_shown:
            for mirror in self._mirrors:
                mirror.log_step(stage, line)

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
        for mirror in self._mirrors:
            mirror.summary(flat)

    def sheet(self, name: str, sheet: Sheet) -> None:
        """Show a table to loggers that have tables."""
        for mirror in self._mirrors:
            mirror.sheet(name, sheet)

    def lineage(self, products: Sequence[Product]) -> None:
        """Show what the run stands on to loggers that keep lineage."""
        for mirror in self._mirrors:
            mirror.lineage(products)

    @property
    def shows(self) -> bool:
        """Whether any logger is on."""
        return bool(self._mirrors)

    def describe(self) -> dict[str, Any]:
        """Return what `results.json` says under `loggers`, by name."""
        return {mirror.kind: mirror.describe() for mirror in self._mirrors}

    def finish(self, failed: bool = False) -> None:
        """Close the loggers; safe to call twice."""
        for mirror in self._mirrors:
            mirror.finish(failed)

    def _write(self, stage: str, values: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")
