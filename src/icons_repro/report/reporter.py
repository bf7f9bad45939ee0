"""Everything one run tells: tracking while it goes, results and the summary at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import DataError
from icons_repro.core.step import Step, ordered
from icons_repro.evaluation.relative import (
    Evaluated,
    Relative,
    above_blind,
    blind_scores,
    relative_performance,
)
from icons_repro.evaluation.runner import read_scores, unknown_words
from icons_repro.report.gather import PageInputs
from icons_repro.report.inventory import forget_failure, record_failure
from icons_repro.report.leakage import leaked
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN, Line
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

Results = Mapping[str, Mapping[str, Any]]


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
        scored = {line.name: self._results(line) for line in self.lines}
        blind = self._blind(self.experiment.graph.world)
        relatives = self._relatives(scored, blind)
        results = self._run_results(scored, blind, relatives)
        write_results(self.folder, results)
        self._show(results, scored, blind)
        files = self._page(results, scored, blind, relatives) | self._files()
        if show:
            order = [name for name in (FULL, RANDOM, THIS_RUN) if scored.get(name)]
            ends = {n: scored[n] for n in order}
            notes = [*self._unread(), *missing_references(self.config, self.lines)]
            following = try_next(self.config)
            print_summary(results, ends, blind, relatives, files, following, notes=notes)
        return float(results.relative["value"]) if results.relative else None

    def _results(self, line: Line) -> Results:
        folder = self._score_folder(line)
        return read_scores(folder) if folder else {}

    def _score_folder(self, line: Line) -> Path | None:
        """Return where a line's scores are, or None if they are not."""
        if line.scores is None or not self.cache.is_ready(line.scores):
            return None
        return self.cache.path(line.scores)

    def _leakage_folder(self) -> Path | None:
        step = self.experiment.leakage
        return self.cache.path(step) if step and self.cache.is_ready(step) else None

    def _blind(self, world: Step | None) -> dict[str, float]:
        if world is None or not self.cache.is_ready(world):
            return {}
        return blind_scores(self.cache.path(world) / "world.json")

    def _relatives(
        self, scored: Mapping[str, Results], blind: Mapping[str, float]
    ) -> dict[str, Relative | None]:
        """Compare this run, and random, with full data."""
        names = self.config.names
        found = {
            line.name: Evaluated(
                line.name,
                names.setup,
                self.config.scale,
                scored[line.name],
                self._score_folder(line),
            )
            for line in self.lines
            if scored[line.name]
        }
        full = found.get(FULL)
        if full is None:
            return {}
        relatives: dict[str, Relative | None] = {}
        for name in (THIS_RUN, RANDOM):
            if name in found:
                relatives[f"{name}, relative to full data"] = relative_performance(
                    found[name], full
                )
                if blind:
                    relatives[f"{name}, above the blind baseline"] = above_blind(
                        found[name], full, blind
                    )
        return relatives

    def _run_results(
        self,
        scored: Mapping[str, Results],
        blind: Mapping[str, float],
        relatives: Mapping[str, Relative | None],
    ) -> RunResults:
        c, line = self.config, self.lines[0]
        counts = self.cache.manifest(line.selection)["counts"]
        influence = line.selection.inputs.get("influence")
        relative = relatives.get(f"{THIS_RUN}, relative to full data")
        above = relatives.get(f"{THIS_RUN}, above the blind baseline")
        trained = self.cache.is_ready(line.adapter)
        others = {name: found for name, found in scored.items() if name != THIS_RUN and found}
        compared: dict[str, Mapping[str, float | None]] = {
            name: {benchmark: result["score"] for benchmark, result in found.items()}
            for name, found in others.items()
        }
        more = {
            "above_blind": above.to_json() if above else None,
            "compared_with": compared | ({"blind": blind} if blind else {}),
        }
        shown = self.tracker.describe()
        return RunResults(
            experiment=c.names.experiment,
            setup=c.names.setup,
            scale=c.scale,
            selector=c.names.selector,
            budget=c.budget,
            seed=c.seed,
            n_pool=counts["usable"],
            n_selected=counts["selected"],
            selection=str(self.cache.path(line.selection)),
            adapter=str(self.cache.path(line.adapter)) if trained else None,
            influence=str(self.cache.path(influence) / "influence.parquet") if influence else None,
            pool=line.selection.inputs["pool"].fingerprint,
            evaluations={
                line.name: str(folder)
                for line in self.lines
                if (folder := self._score_folder(line))
            },
            benchmarks=scored[THIS_RUN],
            leakage=leaked(shared) if (shared := self._leakage_folder()) else {},
            relative=relative.to_json() | more if relative else None,
            wandb=shown.get("wandb", {"mode": "off"}),
            loggers=shown,
            stages=self._stages(),
        )

    def _stages(self) -> dict[str, dict[str, Any]]:
        """Say of each step behind this run: fingerprint, cached, seconds."""
        stages: dict[str, dict[str, Any]] = {}
        others = {
            step.fingerprint: f"{step.stage}_{line.name}"
            for line in self.lines[1:]
            for step in line.steps
        }
        for step in ordered(self.experiment.goals()):
            if self.cache.is_ready(step):
                artifact = self.ledger.artifact(step)
                stages[others.get(step.fingerprint, step.stage)] = {
                    "fingerprint": step.fingerprint,
                    "cached": artifact.cached,
                    "seconds": artifact.seconds,
                }
        return stages

    def _show(
        self,
        results: RunResults,
        scored: Mapping[str, Results],
        blind: Mapping[str, float],
    ) -> None:
        """Show the results to the loggers; the references' curves in runs of their own."""
        self.tracker.summary(json.loads((self.folder / FILE).read_text()))
        if not self.tracker.shows:
            return
        ends = {n: scored[n] for n in (FULL, RANDOM, THIS_RUN) if scored.get(n)}
        if ends:
            self.tracker.sheet("scores", score_sheet(ends, blind))
        pool = self.cache.path(self.lines[0].selection.inputs["pool"])
        self.tracker.sheet("selection", selection_sheet(Path(results.selection), pool))
        self.tracker.lineage(products(ordered(self.experiment.goals()), self.cache))
        self.close(failed=False)  # one run of a logger at a time
        for line in self.lines[1:]:
            if scores := scored[line.name]:
                show_reference(line, scores, self.config, self.cache, self.sweep)

    def _unread(self) -> list[str]:
        """Say what of the pool and of the benchmarks the model has no words for."""
        line, words = self.lines[0], ""
        if self.cache.is_ready(line.adapter):
            words = self.cache.manifest(line.adapter)["counts"].get("unknown_words", "")
        folder = self._score_folder(line)
        found = ({"the pool": words} if words else {}) | (unknown_words(folder) if folder else {})
        return [f"the model cannot read all of {what}: {said}" for what, said in found.items()]

    def _page(
        self,
        results: RunResults,
        scored: Mapping[str, Results],
        blind: Mapping[str, float],
        relatives: Mapping[str, Relative | None],
    ) -> dict[str, Path]:
        """Write the page about this run."""
        line = self.lines[0]
        pool = self.cache.path(line.selection.inputs["pool"])
        inputs = PageInputs(
            results=results,
            lines={name: found for name, found in scored.items() if found},
            blind=blind,
            relatives=relatives,
            selection=self.cache.path(line.selection),
            metrics=self._curves(),
            pool=pool,
            rivals=rival_selections(
                line.selection, self.ledger.goals, self.cache, self.folder.parent
            ),
            evaluations={name: Path(path) for name, path in results.evaluations.items()},
            leakage=self._leakage_folder(),
            run=short_path(self.folder),
            files=self._files(),
            config_text=(self.folder / "config.yaml").read_text(),
        )
        return {"page": write_page(self.folder, inputs)}

    def _curves(self) -> dict[str, Path]:
        """Return the training metrics of the finished stages, by the stage's name."""
        found = {
            stage: path
            for fingerprint, stage in self.curves.items()
            for path in self.cache.root.glob(f"*/{fingerprint}/metrics.jsonl")
        }
        return {stage: found[stage] for stage in sorted(found)}

    def _files(self) -> dict[str, Path]:
        line = self.lines[0]
        files = {"results": self.folder / "results.json"}
        files["chosen rows"] = self.cache.path(line.selection) / "subset.json"
        if self.cache.is_ready(line.adapter):
            files["adapter"] = self.cache.path(line.adapter)
            for profile in files["adapter"].glob("*profile*.txt"):
                files["profile"] = profile
        if scores := self._score_folder(line):
            files["answers"] = scores / "answers"
        files["metrics"] = self.folder / METRICS
        return files
