"""The graph of one run: what influence, selection and all that follows are made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from icons_repro.config.run import RunConfig
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import GradientSettings
from icons_repro.core.step import Step
from icons_repro.data.image_looks import ImageLooks
from icons_repro.data.stage import Pool
from icons_repro.features.extra import pool_feature
from icons_repro.features.stage import ClipPass, ForwardPass, TargetClipPass, TargetForwardPass
from icons_repro.gradients.stage import PoolGradients, TargetGradients
from icons_repro.graph.features import FeatureSteps
from icons_repro.graph.gradients import GradientSteps
from icons_repro.graph.influences import InfluenceSteps, rule_of
from icons_repro.graph.inputs import Inputs
from icons_repro.graph.results import ResultSteps
from icons_repro.graph.warmups import WarmUps
from icons_repro.influence.sources.base import Source, build_source
from icons_repro.selection.base import budget_to_k
from icons_repro.selection.resolve import build_selector
from icons_repro.selection.stage import Select
from icons_repro.training.stage import SliceWarmUp


class Graph(Inputs):
    """The steps of a config. Building it runs nothing; equal configs share their steps.

    It begins with the run's inputs, has a part for each group of steps, and is what a source of
    influence sees of the run (`influence/sources/base.py: Wiring`).
    """

    def __init__(
        self, config: RunConfig, looks: ImageLooks | None = None, pool: Pool | None = None
    ) -> None:
        """See `Inputs`. Raises `ConfigError` for settings that cannot go together."""
        super().__init__(config, looks, pool)
        if config.trainer.bits and config.trainer.device == "cpu":
            raise ConfigError(
                f"trainer.bits={config.trainer.bits} needs a CUDA device (bitsandbytes): choose "
                "trainer=gpu on a machine with one, or trainer.bits=null."
            )
        self.warmups = WarmUps(self)
        self.gradients = GradientSteps(self, self.warmups)
        self.influences = InfluenceSteps(self, self.warmups, self.gradients)
        self.features = FeatureSteps(self, self.warmups)
        self.results = ResultSteps(self)

    def within(self, pool: Pool) -> Graph:
        """The graph of the same run whose sources see these rows of its pool alone."""
        return Graph(self.config, self.looks, pool)

    # what a source may ask for

    @property
    def warmup(self) -> SliceWarmUp:
        """The adapter that gradients are taken at."""
        return self.warmups.of_slice

    def forward_passes(self) -> tuple[ForwardPass, TargetForwardPass]:
        """Losses and hidden states of the pool, and of the target tasks."""
        return self.features.forward, self.features.target_forward

    def clip_passes(self) -> tuple[ClipPass, TargetClipPass]:
        """CLIP's embeddings of the pool, and of the target tasks."""
        return self.features.clip, self.features.target_clip

    def train_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> PoolGradients:
        """The pool's gradients, after an epoch of the warm-up or at its end."""
        return self.gradients.of_pool(settings, epoch)

    def target_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> TargetGradients:
        """The target tasks' gradients."""
        return self.gradients.of_targets(settings, epoch)

    def gradient_influence(self, settings: GradientSettings) -> Step:
        """Influence by the gradients that the settings describe."""
        return self.influences.by_task(settings)

    def gradient_rows(self, settings: GradientSettings) -> Step:
        """The same by validation row."""
        return self.influences.by_row(settings)

    # what a source answers, and what is selected by it

    @cached_property
    def source(self) -> Source:
        """What influence is measured with."""
        return build_source(self.config.influence)

    @cached_property
    def influence(self) -> Step:
        """The influence matrix of the run's source."""
        return self.source.influence(self)

    @property
    def influence_rows(self) -> Step:
        """The same by validation row. Raises `ConfigError` where the source has none."""
        step = self.source.by_validation_row(self)
        if step is None:
            raise ConfigError(
                f"influence={self.source.name} has no influence by validation row, which "
                f"{rule_of(self.config.selector)} needs: {self.source.remedy(self)}"
            )
        return step

    def feature(self, name: str) -> Step:
        """Return the step that makes what a selector calls `name` in `requires`."""
        step = pool_feature(name).made_by(self)
        if step is None:
            raise ConfigError(f"the feature {name!r} exists only in the tiny world.")
        return step

    def selection(self, selector: Mapping[str, Any], budget: float, seed: int) -> Select:
        """The rows that `selector` keeps."""
        budget_to_k(budget, 1)  # refuse an impossible budget before anything runs
        made = build_selector(selector)
        return Select(
            pool=self.pool,
            features={name: self.feature(name) for name in sorted(made.requires)},
            selector=selector,
            method=made.name,
            budget=str(budget),
            seed=seed,
            device=self._clustering_device() if made.uses_device else "cpu",
        )

    def _clustering_device(self) -> str:
        """The trainer's device, unless `resources.select` gives selection no GPU."""
        row = self.config.resources.get("select")
        return "cpu" if row and row.gpus == 0 else self.trainer.device
