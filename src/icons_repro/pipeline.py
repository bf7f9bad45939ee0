"""Order the stages of one run, skip the finished ones, and tell what came out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from icons_repro.config import RunConfig, explain_override, register, typed
from icons_repro.core.artifacts import ArtifactCache, Step
from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.screen import quiet_third_parties
from icons_repro.graph import Graph
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN, Line

log = logging.getLogger(__name__)
register()


def run(config: DictConfig) -> None:
    """Run, or with `plan=true` only plan, the experiment that `config` describes."""
    quiet_third_parties()
    settings = typed(config)
    if settings.trainer.threads:  # before torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", str(settings.trainer.threads))
    if settings.plan:
        plan(settings)
        return
    if "preflight" in settings.stages:
        look_ahead(settings)
        if settings.stages == ["preflight"]:
            return
    Experiment(settings).run(OmegaConf.to_yaml(config, resolve=True))


def look_ahead(settings: RunConfig) -> None:
    """Print what preflight finds. Raises `UserError` if the run would fail."""
    from icons_repro.preflight.findings import print_findings, would_fail
    from icons_repro.preflight.run import preflight

    findings = preflight(settings, ArtifactCache(Path(settings.paths.cache)))
    print_findings(findings)
    if would_fail(findings):
        raise UserError("the run would fail; the problems and remedies are above.")


def plan(settings: RunConfig) -> None:
    """Print every step of a run; at the paper's scale, first what it would cost."""
    from icons_repro.report.plan import print_plan

    if settings.scale == "paper":
        from icons_repro.costs import print_run_costs

        print_run_costs(settings, Graph(settings), ArtifactCache(Path(settings.paths.cache)))
        try:
            Experiment(settings)
        except ConfigError as error:
            log.warning("the steps cannot be named before the files are there: %s", error)
            return
    experiment = Experiment(settings)
    print_plan(experiment.goals(), experiment.cache)


class Experiment:
    """One run: which steps it wants, their artifacts, and the report on them."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.graph = Graph(config)
        self.cache = ArtifactCache(Path(config.paths.cache))
        self.line = self._line(THIS_RUN, config.selector, config.budget)

    def _line(self, name: str, selector: Mapping[str, Any], budget: float) -> Line:
        seed = self.config.seed
        selection = self.graph.selection(selector, budget, seed)
        adapter = self.graph.adapter(selection, seed)
        scored = "evaluate" in self.config.stages
        return Line(name, selection, adapter, self.graph.scores(adapter) if scored else None)

    @cached_property
    def references(self) -> list[Line]:
        """Return the full-data and random runs to compare with, at the same seed and recipe.

        With `reference=reuse`, those that are finished already; with `none`, none.
        """
        c = self.config
        if c.reference == "none" or "evaluate" not in c.stages:
            return []
        lines = [
            self._line(FULL, c.references["full"], 1.0),
            self._line(RANDOM, c.references["random"], c.budget),
        ]
        if c.budget == 1.0:
            lines = lines[:1]
        lines = [
            line for line in lines if line.adapter.fingerprint != self.line.adapter.fingerprint
        ]
        if c.reference == "reuse":
            lines = [line for line in lines if self.cache.is_ready(line.steps[-1])]
        return lines

    def goals(self) -> list[Step]:
        """Return the steps that the chosen stages ask for, in order of work.

        A stage that the method does not need (gradients for `random`) runs only where nothing
        later is asked for.
        """
        g, stages = self.graph, self.config.stages
        ends = {"select", "finetune", "evaluate", "export", "report"} & set(stages)
        steps: list[Step] = [g.pretrained] if "pretrain" in stages else []
        if "prepare" in stages:
            steps += [g.pool, g.base] if ends else [g.pool, g.base, g.targets]
        if not ends:
            steps += [g.warmup] if "warmup" in stages else []
            stored = "extract" in stages and self.config.gradients.mode == "store"
            steps += g.train_gradients if stored else []
            steps += g.target_gradients if stored and not self._sharded() else []
            steps += [g.influence] if "score" in stages else []
        steps += [self.line.selection] if "select" in stages else []
        steps += [self.line.adapter] if "finetune" in stages else []
        if "evaluate" in stages:
            steps += [line.steps[-1] for line in (self.line, *self.references)]
        if "export" in stages:
            steps.append(self.graph.export(self.line.selection, self.line.adapter))
        return steps

    def _sharded(self) -> bool:
        return self.config.gradients.shard is not None

    def run(self, config_text: str) -> None:
        """Compute what is missing, then write `results.json`, the page, and the end table."""
        from icons_repro.report.run import Reporter

        with Reporter(self.config, config_text, self.cache) as reporter:
            steps = self.goals()
            reporter.follow([self.line, *self.references], self.graph.warmup)
            for step in steps:
                self.cache.get(step, reporter.on_metrics)
            if "select" in self.config.stages:
                reporter.finish(self.graph.world)
            else:
                reporter.say_where(steps)


def command_line(main: Callable[[], None]) -> None:
    """Run Hydra's `main`; turn errors that a person can act on into one clear message."""
    try:
        main()
    except UserError as error:
        sys.exit(f"\nError: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"\nError: {explain_override(str(error), _default_config())}")


def _default_config() -> DictConfig:
    """Return the config without any override, to look for the key that was meant."""
    from hydra import initialize_config_dir

    GlobalHydra.instance().clear()
    with initialize_config_dir(
        str(Path(sys.argv[0]).resolve().parent / "conf"), version_base="1.3"
    ):
        return compose("config")
