"""How the stages of one run hang together: every step, ready to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from icons_repro.config import RunConfig
from icons_repro.core.artifacts import Step
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import DataSettings, RecordPolicy
from icons_repro.stages import evaluation, gradients, prepare, selection, training


class Graph:
    """The steps of a config. Building it runs nothing; equal configs share their steps."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.index = Path(config.paths.cache) / "files.json"
        self.encoding = prepare.part_of(config.data, DataSettings)

    # prepare

    @cached_property
    def world(self) -> Step | None:
        """The tiny world, or None where the data are the user's."""
        settings = self.config.data.world
        return prepare.world(settings) if settings is not None else None

    @cached_property
    def pool(self) -> Step:
        """The pool's records."""
        return prepare.pool(self.config.data, self.world, self.index)

    @cached_property
    def targets(self) -> Step:
        """The target tasks' validation records."""
        policy = prepare.part_of(self.config.data, RecordPolicy)
        return prepare.targets(self.config.targets, policy, self.world, self.index)

    @cached_property
    def base(self) -> Step:
        """The base model."""
        return prepare.base_model(self.config.model, self.index)

    # warmup, extract, score

    @cached_property
    def warmup(self) -> Step:
        """The adapter that gradients are taken at."""
        c = self.config
        return training.warmup(c.warmup, c.lora, self.encoding, c.trainer, self.base, self.pool)

    @cached_property
    def train_gradients(self) -> Step:
        """The pool's gradient store."""
        c = self.config
        return gradients.train_gradients(
            c.gradients, c.projector, self.encoding, c.trainer, self.base, self.warmup, self.pool
        )

    @cached_property
    def target_gradients(self) -> Step:
        """The target tasks' gradient stores."""
        c = self.config
        return gradients.target_gradients(
            c.gradients, c.projector, self.encoding, c.trainer, self.base, self.warmup, self.targets
        )

    @cached_property
    def influence(self) -> Step:
        """The influence matrix."""
        return gradients.influence(
            self.config.targets,
            self.pool,
            self.targets,
            self.train_gradients,
            self.target_gradients,
        )

    # select, finetune, evaluate

    def feature(self, name: str) -> Step:
        """Return the step that makes what a selector calls `name` in `requires`."""
        makers: Mapping[str, Callable[[], Step | None]] = {
            "influence": lambda: self.influence,
            "validation_counts": lambda: self.targets,
            "truth": lambda: self.world,
        }
        if name not in makers:
            raise ConfigError(f"no stage makes the feature {name!r}; known: {sorted(makers)}.")
        step = makers[name]()
        if step is None:
            raise ConfigError(f"the feature {name!r} exists only in the tiny world.")
        return step

    def selection(self, selector: Mapping[str, Any], budget: float, seed: int) -> Step:
        """The rows that `selector` keeps."""
        needed = sorted(selection.make_selector(selector).requires)
        features = {name: self.feature(name) for name in needed}
        return selection.select(selector, budget, seed, self.pool, features)

    def adapter(self, chosen: Step, seed: int) -> Step:
        """The adapter trained on `chosen`, from the base model."""
        c = self.config
        return training.finetune(
            c.finetune, c.lora, self.encoding, c.trainer, seed, self.base, self.pool, chosen
        )

    def scores(self, adapter: Step) -> Step:
        """The benchmark scores of an adapter."""
        c = self.config
        return evaluation.evaluate(
            c.benchmarks, self.encoding, c.trainer, self.base, adapter, self.world, self.index
        )
