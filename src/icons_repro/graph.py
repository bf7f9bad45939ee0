"""How the stages of one run hang together: every step, ready to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from icons_repro.config import RunConfig
from icons_repro.core.artifacts import Step
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import DataSettings, GradientSettings, RecordPolicy
from icons_repro.stages import (
    content,
    evaluation,
    export,
    features,
    gradients,
    influence,
    prepare,
    selection,
    training,
)
from icons_repro.stages.gradients import GradientJob


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
        settings = self.config.targets
        made = prepare.drawn_targets(settings) if settings.draws else self.world
        return prepare.targets(settings, policy, made, self.index)

    @cached_property
    def base(self) -> Step:
        """The base model that is trained and scored."""
        return prepare.base_model(self.config.model, self.index)

    @cached_property
    def selection_base(self) -> Step:
        """The base model that is selected with: the same, unless `selection_model` is another."""
        other = self.config.selection_model
        return prepare.base_model(other, self.index) if other else self.base

    @cached_property
    def pretrained(self) -> Step:
        """The tiny base, rebuilt."""
        return training.pretrain(self.config.pretrain, self.config.trainer)

    # warmup, extract, score

    @cached_property
    def warmup(self) -> Step:
        """The adapter that gradients are taken at."""
        c = self.config
        base = self.selection_base
        return training.warmup(c.warmup, c.lora, self.encoding, c.trainer, base, self.pool)

    @cached_property
    def full_run_warmup(self) -> Step:
        """The adapter of the run over the whole pool, part of the way."""
        c = self.config
        base = self.selection_base
        return training.full_run_warmup(
            c.warmup, c.finetune, c.lora, self.encoding, c.trainer, base, self.pool
        )

    @cached_property
    def train_gradients(self) -> Sequence[Step]:
        """The pool's gradient stores, one for each checkpoint."""
        jobs = self._gradient_jobs(self.config.gradients)
        return [gradients.train_gradients(job, self.pool) for job in jobs]

    @cached_property
    def target_gradients(self) -> Sequence[Step]:
        """The target tasks' gradient stores, one artifact for each checkpoint."""
        jobs = self._gradient_jobs(self.config.gradients)
        return [gradients.target_gradients(job, self.targets) for job in jobs]

    @cached_property
    def influence(self) -> Step:
        """The influence matrix, from the gradient stores or taken directly."""
        return self._influence(self.config.gradients)

    def _influence(self, settings: GradientSettings) -> Step:
        """Influence at the warm-up's end, or over the checkpoints of its epochs."""
        matrices = [self._influence_at(job) for job in self._gradient_jobs(settings)]
        if len(matrices) == 1:
            return matrices[0]
        return influence.influence_over_epochs(self.warmup, matrices)

    def _influence_at(self, job: GradientJob) -> Step:
        if job.settings.mode == "direct":
            return influence.influence_direct(job, self.config.targets, self.pool, self.targets)
        train = gradients.train_gradients(job, self.pool)
        validation = gradients.target_gradients(job, self.targets)
        return influence.influence(
            self.config.targets,
            self.pool,
            self.targets,
            train,
            validation,
            job.settings.normalise_subtasks,
        )

    def _gradient_jobs(self, settings: GradientSettings) -> list[GradientJob]:
        """Return one job for each checkpoint of the warm-up that `settings` ask for."""
        c = self.config
        last = GradientJob(
            settings, c.projector, self.encoding, c.trainer, self.selection_base, self.warmup
        )
        if settings.checkpoints == "last":
            return [last]
        if settings.checkpoints == "full_run":
            return [replace(last, warmup=self.full_run_warmup)]
        earlier = range(1, c.warmup.train.epochs)
        return [*(replace(last, epoch=epoch) for epoch in earlier), last]

    # select, finetune, evaluate

    def feature(self, name: str) -> Step:
        """Return the step that makes what a selector calls `name` in `requires`."""
        c = self.config
        makers: Mapping[str, Callable[[], Step | None]] = {
            "influence": lambda: self.influence,
            "influence_as_released": self._influence_as_released,
            "influence_less": self._influence_less,
            "validation_counts": lambda: self.targets,
            "truth": lambda: self.world,
            "forward_stats": lambda: self._model_pass(features.forward),
            "hidden_last": lambda: self._model_pass(features.forward),
            "hidden_mean": lambda: self._model_pass(features.forward),
            "coincide": lambda: self._model_pass(features.coincide),
            "clip": self._clip,
            "self_filter": self._self_filter,
            "instance_gradients": self._instance_gradients,
            "answer_words": lambda: content.answer_words(self.pool),
            "released_keys": lambda: content.released_keys(c.features, self.pool, self.index),
        }
        if name not in makers:
            raise ConfigError(f"no stage makes the feature {name!r}; known: {sorted(makers)}.")
        step = makers[name]()
        if step is None:
            raise ConfigError(f"the feature {name!r} exists only in the tiny world.")
        return step

    def _model_pass(self, make: Callable[..., Step]) -> Step:
        """A forward pass over the pool, of the warm-up model or of the base."""
        c = self.config
        base = self.selection_base
        return make(c.features, self.encoding, c.trainer, base, self.warmup, self.pool)

    def _clip(self) -> Step:
        c = self.config
        if c.features.clip is None and self.world is None:
            raise ConfigError(
                "features.clip is not set, and the CLIP that ships knows the tiny world alone: "
                "choose features=llava15, or features.clip=FOLDER."
            )
        return features.clip(c.features, c.trainer, self.pool, self.index, c.data.num_workers)

    def _self_filter(self) -> Step:
        c = self.config
        return features.self_filter(
            c.features,
            c.lora,
            self.encoding,
            c.trainer,
            self.selection_base,
            self.pool,
            self._clip(),
        )

    def _instance_gradients(self) -> Step:
        """TIVE's gradients: plain ones of the attention's LoRA, at the warm-up model."""
        c = self.config
        settings = replace(
            c.gradients,
            mode="store",
            parameters=c.features.instance_parameters,
            train_feature="sgd",
            checkpoints="last",
            shard=None,
        )
        (job,) = self._gradient_jobs(settings)
        return features.instance_gradients(gradients.train_gradients(job, self.pool))

    def _influence_as_released(self) -> Step:
        """ICONS' released influence: part of the way of the full run, MME's gradients unscaled."""
        settings = replace(
            self.config.gradients, checkpoints="full_run", normalise_subtasks=False, shard=None
        )
        return self._influence(settings)

    def _influence_less(self) -> Step:
        """LESS's influence: Adam directions against plain gradients, over the warm-up's epochs."""
        settings = replace(
            self.config.gradients,
            mode="store",
            train_feature="adam",
            val_feature="sgd",
            checkpoints="epochs",
            shard=None,
        )
        return self._influence(settings)

    def selection(self, selector: Mapping[str, Any], budget: float, seed: int) -> Step:
        """The rows that `selector` keeps."""
        needed = sorted(selection.make_selector(selector).requires)
        given = {name: self.feature(name) for name in needed}
        return selection.select(selector, budget, seed, self.pool, given)

    def adapter(self, chosen: Step, seed: int) -> Step:
        """The adapter trained on `chosen`, from the base model.

        All of the pool takes the same steps in both regimes, so it is trained once for both.
        """
        c = self.config
        whole = chosen.config["selector"] == c.references["full"]
        recipe = replace(c.finetune, steps="same_epochs") if whole else c.finetune
        return training.finetune(
            recipe, c.lora, self.encoding, c.trainer, seed, self.base, self.pool, chosen
        )

    def scores(self, adapter: Step) -> Step:
        """The benchmark scores of an adapter."""
        c = self.config
        return evaluation.evaluate(
            c.benchmarks, self.encoding, c.trainer, self.base, adapter, self.world, self.index
        )

    def export(self, chosen: Step, adapter: Step) -> Step:
        """The merged model, the adapter and the subset, for other people's programs."""
        c = self.config
        return export.export(self.encoding, c.trainer, self.base, self.pool, chosen, adapter)
