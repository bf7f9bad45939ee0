"""What came out of one run: scores of its models, their comparison, and `results.json` of both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.step import ordered
from icons_repro.evaluation.relative import (
    Evaluated,
    Relative,
    above_blind,
    blind_scores,
    relative_performance,
)
from icons_repro.evaluation.runner import read_scores, unknown_words
from icons_repro.report.leakage import leaked
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN, Line
from icons_repro.report.results import RunResults

if TYPE_CHECKING:
    from icons_repro.engine.ledger import Ledger
    from icons_repro.experiment import Experiment

Results = Mapping[str, Mapping[str, Any]]


class Outcome:
    """Read from the finished steps of a run; made when they are finished."""

    def __init__(self, experiment: Experiment, ledger: Ledger) -> None:
        self.experiment = experiment
        self.config = experiment.config
        self.ledger = ledger
        self.cache = ledger.cache

    @cached_property
    def lines(self) -> list[Line]:
        """The models that the run is about; the first is its own."""
        return self.experiment.lines

    @cached_property
    def scored(self) -> dict[str, Results]:
        """The benchmarks' results of each model; of one without scores, none."""
        folders = {line.name: self.score_folder(line) for line in self.lines}
        return {name: read_scores(folder) if folder else {} for name, folder in folders.items()}

    def score_folder(self, line: Line) -> Path | None:
        """Return where a model's scores are, or None if they are not."""
        if line.scores is None or not self.cache.is_ready(line.scores):
            return None
        return self.cache.path(line.scores)

    @property
    def score_folders(self) -> dict[str, Path]:
        """Where scores are, by the name of the model."""
        folders = {line.name: self.score_folder(line) for line in self.lines}
        return {name: folder for name, folder in folders.items() if folder}

    @property
    def ends(self) -> dict[str, Results]:
        """The models that have scores, as the end table orders them."""
        return {
            name: self.scored[name] for name in (FULL, RANDOM, THIS_RUN) if self.scored.get(name)
        }

    @property
    def leakage_folder(self) -> Path | None:
        """Where what the tests share with the pool and the targets is, or None if it is not."""
        step = self.experiment.leakage
        return self.cache.path(step) if step and self.cache.is_ready(step) else None

    @cached_property
    def blind(self) -> dict[str, float]:
        """What answers without a picture score, where the world says it."""
        world = self.experiment.graph.world
        if world is None or not self.cache.is_ready(world):
            return {}
        return blind_scores(self.cache.path(world) / "world.json")

    @cached_property
    def relatives(self) -> dict[str, Relative | None]:
        """This run, and random, compared with full data."""
        setup, scale = self.config.names.setup, self.config.scale
        found = {
            name: Evaluated(name, setup, scale, results, self.score_folders[name])
            for name, results in self.scored.items()
            if results
        }
        full = found.get(FULL)
        if full is None:
            return {}
        relatives: dict[str, Relative | None] = {}
        for name in (THIS_RUN, RANDOM):
            if name not in found:
                continue
            relatives[f"{name}, relative to full data"] = relative_performance(found[name], full)
            if self.blind:
                against = above_blind(found[name], full, self.blind)
                relatives[f"{name}, above the blind baseline"] = against
        return relatives

    def results(self, loggers: Mapping[str, Any]) -> RunResults:
        """Return what `results.json` holds; `loggers` say where else the numbers are shown."""
        c, line = self.config, self.lines[0]
        counts = self.cache.manifest(line.selection)["counts"]
        influence = line.selection.inputs.get("influence")
        trained = self.cache.is_ready(line.adapter)
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
            evaluations={name: str(folder) for name, folder in self.score_folders.items()},
            benchmarks=self.scored[THIS_RUN],
            leakage=leaked(self.leakage_folder) if self.leakage_folder else {},
            relative=self._relative(),
            wandb=loggers.get("wandb", {"mode": "off"}),
            loggers=dict(loggers),
            stages=self._stages(),
        )

    def _relative(self) -> dict[str, Any] | None:
        """This run's comparison with full data, and what else it is compared with."""
        relative = self.relatives.get(f"{THIS_RUN}, relative to full data")
        if relative is None:
            return None
        above = self.relatives.get(f"{THIS_RUN}, above the blind baseline")
        compared: dict[str, Mapping[str, float | None]] = {
            name: {benchmark: result["score"] for benchmark, result in found.items()}
            for name, found in self.scored.items()
            if name != THIS_RUN and found
        }
        return relative.to_json() | {
            "above_blind": above.to_json() if above else None,
            "compared_with": compared | ({"blind": self.blind} if self.blind else {}),
        }

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

    def unread(self) -> list[str]:
        """Say what of the pool and of the benchmarks the model has no words for."""
        line, words = self.lines[0], ""
        if self.cache.is_ready(line.adapter):
            words = self.cache.manifest(line.adapter)["counts"].get("unknown_words", "")
        folder = self.score_folder(line)
        found = ({"the pool": words} if words else {}) | (unknown_words(folder) if folder else {})
        return [f"the model cannot read all of {what}: {said}" for what, said in found.items()]
