"""Everything one run tells: tracking while it goes, results and the summary at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from icons_repro.core.errors import DataError
from icons_repro.core.step import Step, ordered
from icons_repro.report.gather import PageInputs
from icons_repro.report.inventory import forget_failure, record_failure
from icons_repro.report.lines import THIS_RUN, Line
from icons_repro.report.outcome import Outcome
from icons_repro.report.page import FILE as PAGE
from icons_repro.report.page import write_page
from icons_repro.report.results import FILE, RunResults, read_results, write_results
from icons_repro.report.rivals import rival_selections
from icons_repro.report.shown import (
    about,
    products,
    score_sheet,
    selection_sheet,
    show_reference,
)
from icons_repro.report.summary import print_files, print_summary, short_path
from icons_repro.report.try_next import missing_references, try_next
from icons_repro.tracking import Tracker
from icons_repro.tracking.tracker import FILE as METRICS

if TYPE_CHECKING:
    from icons_repro.engine.ledger import Ledger
    from icons_repro.experiment import Experiment


class Reporter:
    """Follows one run from its first step to its last line on the screen."""

    def __init__(
        self, experiment: Experiment, config_text: str, ledger: Ledger, sweep: str = ""
    ) -> None:
        """Make the run's directory, with its whole config in `config.yaml`.

        `sweep` names the sweep that the run is part of.
        """
        self.sweep = sweep
        self.experiment = experiment
        self.config = experiment.config
        self.ledger = ledger
        self.cache = ledger.cache
        self.folder = Path(self.config.paths.run)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(config_text)
        self._tracker: Tracker | None = None

    @property
    def tracker(self) -> Tracker:
        """Where numbers go; opened when the first comes."""
        if self._tracker is None:
            aside = {curve for curve in self.curves.values() if curve.startswith("finetune_")}
            told = about(self.config, self.folder, self.sweep)
            self._tracker = Tracker(told, self.config.logger, aside)
        return self._tracker

    def close(self, failed: bool) -> None:
        """End tracking."""
        if self._tracker is not None:
            self._tracker.finish(failed)
            self._tracker = None

    @property
    def lines(self) -> list[Line]:
        """The models that this run is about; the first is its own."""
        return self.experiment.lines

    @cached_property
    def curves(self) -> dict[str, str]:
        """The name of each training's curve, by the step's fingerprint."""
        found = {self.experiment.graph.warmup.fingerprint: "warmup"}
        for line in reversed(self.lines):
            suffix = "" if line.name == THIS_RUN else f"_{line.name}"
            found[line.adapter.fingerprint] = f"finetune{suffix}"
        return found

    def on_metrics(self, step: Step, metrics: Mapping[str, float]) -> None:
        """Track one line of a stage's training metrics as it is made."""
        if step.fingerprint in self.curves:
            self.tracker.step(self.curves[step.fingerprint], metrics)

    def failed(self, cause: str) -> None:
        """Leave the cause in the run's folder, where a sweep's page finds it."""
        record_failure(self.folder, cause)

    def told_before(self) -> RunResults | None:
        """Return the results that the run's folder holds, if they are of these very steps.

        A sweep does not write them, their page and their W&B run again.
        """
        if not all((self.folder / name).is_file() for name in (FILE, PAGE)):
            return None
        try:
            found = read_results(self.folder)
        except DataError:
            return None
        told = {stage["fingerprint"] for stage in found.stages.values()}
        return found if {goal.fingerprint for goal in self.experiment.goals()} <= told else None

    def finish(self, show: bool) -> float | None:
        """Write, and with `show` print, what came out of the run's finished steps.

        Returns the relative performance, None where there is none. A run without a selection only
        says where its steps are.
        """
        forget_failure(self.folder)
        if not show and (told := self.told_before()):
            return float(told.relative["value"]) if told.relative else None
        if "select" not in self.config.stages:
            goals = self.experiment.goals()
            if show:
                print_files({step.name: self.cache.path(step) for step in goals})
            return None
        for stage, path in self._curves().items():
            self.tracker.replay(stage, path)
        found = Outcome(self.experiment, self.ledger)
        results = found.results(self.tracker.describe())
        write_results(self.folder, results)
        self._show(results, found)
        files = self._files(found)
        files = {"page": self._page(results, found, files)} | files
        if show:
            notes = [*found.unread(), *missing_references(self.config, self.lines)]
            following = try_next(self.config)
            ends, blind, relatives = found.ends, found.blind, found.relatives
            print_summary(results, ends, blind, relatives, files, following, notes=notes)
        return float(results.relative["value"]) if results.relative else None

    def _show(self, results: RunResults, found: Outcome) -> None:
        """Show the results to the loggers; the references' curves in runs of their own."""
        self.tracker.summary(json.loads((self.folder / FILE).read_text()))
        if not self.tracker.shows:
            return
        if ends := found.ends:
            self.tracker.sheet("scores", score_sheet(ends, found.blind))
        pool = self.cache.path(self.lines[0].selection.inputs["pool"])
        self.tracker.sheet("selection", selection_sheet(Path(results.selection), pool))
        self.tracker.lineage(products(ordered(self.experiment.goals()), self.cache))
        self.close(failed=False)  # one run of a logger at a time
        for line in self.lines[1:]:
            if scores := found.scored[line.name]:
                show_reference(line, scores, self.config, self.cache, self.sweep)

    def _page(self, results: RunResults, found: Outcome, files: dict[str, Path]) -> Path:
        """Write the page about this run."""
        line = self.lines[0]
        pool = self.cache.path(line.selection.inputs["pool"])
        inputs = PageInputs(
            results=results,
            lines={name: scores for name, scores in found.scored.items() if scores},
            blind=found.blind,
            relatives=found.relatives,
            selection=self.cache.path(line.selection),
            metrics=self._curves(),
            pool=pool,
            rivals=rival_selections(
                line.selection, self.ledger.goals, self.cache, self.folder.parent
            ),
            evaluations=found.score_folders,
            leakage=found.leakage_folder,
            run=short_path(self.folder),
            files=files,
            config_text=(self.folder / "config.yaml").read_text(),
        )
        return write_page(self.folder, inputs)

    def _curves(self) -> dict[str, Path]:
        """Return the training metrics of the finished stages, by the stage's name."""
        found = {
            stage: path
            for fingerprint, stage in self.curves.items()
            for path in self.cache.root.glob(f"*/{fingerprint}/metrics.jsonl")
        }
        return {stage: found[stage] for stage in sorted(found)}

    def _files(self, found: Outcome) -> dict[str, Path]:
        """Return what else the run left, by what the screen calls it."""
        line = self.lines[0]
        files = {"results": self.folder / "results.json"}
        files["chosen rows"] = self.cache.path(line.selection) / "subset.json"
        if self.cache.is_ready(line.adapter):
            files["adapter"] = self.cache.path(line.adapter)
            for profile in files["adapter"].glob("*profile*.txt"):
                files["profile"] = profile
        if scores := found.score_folder(line):
            files["answers"] = scores / "answers"
        files["metrics"] = self.folder / METRICS
        return files
