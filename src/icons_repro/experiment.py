"""One experiment: which steps it wants, and the runs that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from icons_repro.config.run import RunConfig
from icons_repro.core.cache import Cache
from icons_repro.core.step import Step
from icons_repro.data.image_looks import ImageLooks
from icons_repro.graph.graph import Graph
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN, Line

__all__ = ["FULL", "RANDOM", "Experiment"]
REPORTED = {"select", "finetune", "evaluate", "export", "report"}
"""Stages that end in a report on one selection."""


class Experiment:
    """What one config asks for."""

    def __init__(self, config: RunConfig, cache: Cache, looks: ImageLooks | None = None) -> None:
        """`looks` is shared by the experiments of a sweep: their images are looked at once."""
        self.config = config
        self.cache = cache
        self.graph = Graph(config, looks)

    @cached_property
    def line(self) -> Line:
        """The run itself: its selection, training and scores."""
        return self._line(THIS_RUN, self.config.selector, self.config.budget)

    def _line(self, name: str, selector: Mapping[str, Any], budget: float) -> Line:
        c, results = self.config, self.graph.results
        draw = c.seed if c.selection_seed is None else c.selection_seed
        selection = self.graph.selection(selector, budget, draw)
        adapter = results.adapter(selection, c.seed)
        scored = "evaluate" in self.config.stages
        return Line(name, selection, adapter, results.scores(adapter) if scored else None)

    @cached_property
    def references(self) -> list[Line]:
        """The full-data and random runs to compare with, at the same seed and recipe.

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
        own = self.line.adapter.fingerprint
        lines = [line for line in lines if line.adapter.fingerprint != own]
        if c.reference == "reuse":
            lines = [line for line in lines if self.cache.is_ready(line.steps[-1])]
        return lines

    @property
    def lines(self) -> list[Line]:
        """The run and its references."""
        return [self.line, *self.references]

    @cached_property
    def leakage(self) -> Step | None:
        """Pictures that the tests share with what the run reads; None where nobody asks."""
        asked = self.config.leakage and "evaluate" in self.config.stages
        return self.graph.results.leakage(self.line.selection) if asked else None

    @cached_property
    def _goals(self) -> list[Step]:
        g, stages = self.graph, self.config.stages
        ends = REPORTED & set(stages)
        steps: list[Step] = [g.pretrained] if "pretrain" in stages else []
        if "prepare" in stages:
            steps += [g.pool, g.base] if ends else [g.pool, g.base, g.targets]
        if not ends:
            steps += [g.warmup] if "warmup" in stages else []
            steps += g.gradients.stores if "extract" in stages else []
            steps += [g.influence] if "score" in stages else []
        steps += [self.line.selection] if "select" in stages else []
        steps += [self.line.adapter] if "finetune" in stages else []
        if "evaluate" in stages:
            steps += [line.steps[-1] for line in self.lines]
            steps += [self.leakage] if self.leakage else []
        if "export" in stages:
            steps.append(g.results.export(self.line.selection, self.line.adapter))
        return steps

    def goals(self) -> list[Step]:
        """Return the steps that the chosen stages ask for, in order of work.

        A stage that the method does not need (gradients for `random`) runs only where nothing
        later is asked for.
        """
        return self._goals
