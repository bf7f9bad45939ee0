"""How the steps of one run hang together: which reads which, from the run's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from icons_repro.config import RunConfig
from icons_repro.core.errors import ConfigError
from icons_repro.core.refs import existing, file_ref, folder_ref, source_ref
from icons_repro.core.settings import (
    GradientSettings,
    ModelSettings,
)
from icons_repro.core.step import Step, ordered
from icons_repro.core.typed import checked_part
from icons_repro.data.formats.choice import converted_pool, converted_targets
from icons_repro.data.image_looks import ImageLooks
from icons_repro.data.stage import DrawnTargets, MadeData, Pool, ReleasedKeys, Targets
from icons_repro.data.targets.choice import drawn_targets
from icons_repro.evaluation.settings import chosen_tasks
from icons_repro.evaluation.stage import Evaluate
from icons_repro.export.stage import Export
from icons_repro.features.extra import pool_feature
from icons_repro.features.stage import (
    AttentionPass,
    AttentionTrajectory,
    ClipPass,
    CoincidePass,
    ForwardPass,
    ImagePass,
    QuestionPass,
    SelfFilter,
    SpectrumPass,
    TargetClipPass,
    TargetForwardPass,
    VisionTokenPass,
)
from icons_repro.gradients.stage import (
    GradientRecipe,
    InstanceGradients,
    PoolGradients,
    TargetGradients,
)
from icons_repro.influence.sources.base import Source, build_source
from icons_repro.influence.stage import (
    DirectInfluence,
    GradientRows,
    Influence,
    InfluenceOverEpochs,
)
from icons_repro.leakage.stage import Leakage, PoolPrints
from icons_repro.models.stage import AssembledBase, Base, FolderBase
from icons_repro.selection.base import budget_to_k
from icons_repro.selection.resolve import build_selector
from icons_repro.selection.stage import Select
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.stage import Pretrain, World, tiny_base
from icons_repro.tiny.weights import TINY_CLIP
from icons_repro.training.stage import FineTune, FullRunWarmUp, ProxyRun, SliceWarmUp


class Graph:
    """The steps of a config. Building it runs nothing; equal configs share their steps."""

    def __init__(
        self, config: RunConfig, looks: ImageLooks | None = None, pool: Pool | None = None
    ) -> None:
        """`looks` is what the graphs of one sweep look at images with.

        `pool`: the rows that sources see, where these are not all of the pool.
        """
        self.config = config
        self._seen = pool
        self.looks = looks or ImageLooks(Path(config.paths.cache))
        self.index = Path(config.paths.cache) / "files.json"
        self.encoding = config.data.encoding
        self.policy = config.data.policy
        if config.trainer.bits and config.trainer.device == "cpu":
            raise ConfigError(
                f"trainer.bits={config.trainer.bits} needs a CUDA device (bitsandbytes): choose "
                "trainer=gpu on a machine with one, or trainer.bits=null."
            )

    # prepare

    @cached_property
    def world(self) -> World | None:
        """The tiny world, or None where the data are the user's."""
        settings = self.config.data.world
        if settings is None:
            return None
        return World(settings=checked_part(WorldSettings, settings, "data.world"))

    @property
    def pool(self) -> Pool:
        """The pool's records."""
        return self._seen or self.whole_pool

    def within(self, pool: Pool) -> Graph:
        """The graph of the same run whose sources see these rows of its pool alone."""
        return Graph(self.config, self.looks, pool)

    @cached_property
    def whole_pool(self) -> Pool:
        """All of the pool's records, which the warm-up's slice is drawn from."""
        data = self.config.data
        if made := converted_pool(data, Path(self.config.paths.cache), checked_part) or self.world:
            return Pool(policy=self.policy, world=made)
        source = file_ref(existing(data.json, "data.json", folder=False), self.index)
        folder = existing(data.images, "data.images").absolute()
        images = self.looks.ref(Pool.stage, source, folder, data.image_identity)
        blocks = tuple((data.blocks or {}).items())
        return Pool(policy=self.policy, source=source, images=images, blocks=blocks)

    @cached_property
    def targets(self) -> Targets:
        """The target tasks' validation records."""
        settings = self.config.targets
        cache = Path(self.config.paths.cache)
        converted = converted_targets(settings, self.config.data, cache, checked_part)
        made: MadeData | DrawnTargets | None = converted or self.world
        if settings.draws:
            made = DrawnTargets(**drawn_targets(settings))
        if settings.folder is None and made:
            return Targets(policy=self.policy, tasks=settings.tasks, made=made)
        folder = existing(settings.folder, "targets.folder")
        shown = existing(settings.images, "targets.images").absolute()
        source = folder_ref(folder, self.index, "*.json")
        look = self.config.data.image_identity
        images = self.looks.ref(Targets.stage, source, shown, look)
        return Targets(policy=self.policy, tasks=settings.tasks, source=source, images=images)

    @cached_property
    def base(self) -> Base:
        """The base model that is trained and scored."""
        return self._base(self.config.model)

    @cached_property
    def selection_base(self) -> Base:
        """The base model that is selected with: the same, unless `selection_model` is another."""
        other = self.config.selection_model
        return self._base(other) if other else self.base

    def _base(self, settings: ModelSettings) -> Base:
        if settings.kind == "tiny":
            return tiny_base(settings, self.index)
        needed = {"folder": ("folder",), "assembled": ("language", "vision", "projector")}
        names = {part: getattr(settings, part) for part in needed[settings.kind]}
        unset = [part for part, name in names.items() if name is None]
        if unset:
            raise ConfigError(
                f"model.{unset[0]} is not set, and model.kind={settings.kind} needs it."
            )
        refs = {part: source_ref(str(name), self.index) for part, name in names.items()}
        if settings.kind == "folder":
            return FolderBase(**refs, template=settings.template, images=settings.images or {})
        if settings.template is None:
            raise ConfigError("model.template is not set: v1 for Vicuna, llama3 or qwen.")
        return AssembledBase(**refs, template=settings.template)

    @cached_property
    def pretrained(self) -> Pretrain:
        """The tiny base, rebuilt."""
        return Pretrain(settings=self.config.pretrain, trainer=self.config.trainer)

    # warmup, extract, score

    @cached_property
    def warmup(self) -> SliceWarmUp:
        """The adapter that gradients are taken at."""
        c = self.config.warmup
        return SliceWarmUp(**self._trained, train=c.train, fraction=c.fraction)

    @cached_property
    def full_run_warmup(self) -> FullRunWarmUp:
        """The adapter of the run over the whole pool, part of the way."""
        recipe = replace(self.config.finetune, regime="same_epochs")
        stop = self.config.warmup.full_run_steps
        return FullRunWarmUp(**self._trained, train=recipe, stop_after=stop)

    @property
    def _trained(self) -> dict[str, Any]:
        """What every warm-up is made of."""
        c = self.config
        return {
            "base": self.selection_base,
            "pool": self.whole_pool,
            "lora": c.lora,
            "encoding": self.encoding,
            "trainer": c.trainer,
            "seed": c.warmup.seed,
        }

    def train_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> PoolGradients:
        """The pool's gradients, after an epoch of the warm-up or at its end."""
        recipe = self._recipe(settings, settings.train_direction, epoch)
        return PoolGradients(**self._at(settings), recipe=recipe, pool=self.pool)

    def target_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> TargetGradients:
        """The target tasks' gradients."""
        recipe = self._recipe(settings, settings.val_direction, epoch)
        return TargetGradients(**self._at(settings), recipe=recipe, targets=self.targets)

    def _at(self, settings: GradientSettings) -> dict[str, Any]:
        """The model that gradients are of."""
        full = settings.checkpoints == "full_run"
        return {
            "base": self.selection_base,
            "warmup": self.full_run_warmup if full else self.warmup,
            "encoding": self.encoding,
            "trainer": self.config.trainer,
        }

    def _recipe(
        self, settings: GradientSettings, direction: str, epoch: int | None
    ) -> GradientRecipe:
        stored = settings.mode == "store"
        last = settings.last_layers
        return GradientRecipe(
            parameters=settings.parameters if last is None else f"{settings.parameters}:last{last}",
            per_sample=settings.per_sample,
            direction=direction,
            projection=self.config.projection if stored else {},
            dtype=settings.dtype if stored else "float32",
            epoch=epoch,
            token_budget=settings.token_budget,
            gradient_checkpointing=settings.gradient_checkpointing,
        )

    @property
    def gradients(self) -> list[PoolGradients | TargetGradients]:
        """What `stages=[extract]` makes: the stores of every checkpoint."""
        settings = self.config.gradients
        if settings.mode != "store":
            return []
        made = (self.train_gradients, self.target_gradients)
        return [make(settings, epoch) for make in made for epoch in self._epochs(settings)]

    def _epochs(self, settings: GradientSettings) -> list[int | None]:
        """Return the checkpoints of the warm-up that `settings` ask for."""
        if settings.checkpoints != "epochs":
            return [None]
        return [*range(1, self.config.warmup.train.epochs), None]

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

    def gradient_rows(self, settings: GradientSettings) -> Step:
        """The gradient stores of the settings' checkpoints, by validation row.

        Raises `ConfigError` for direct gradients, of which nothing but each task's mean is kept.
        """
        if settings.mode == "direct":
            raise ConfigError(
                f"gradients.mode=direct has no influence by validation row, which "
                f"{rule_of(self.config.selector)} needs: set gradients.mode=store."
            )
        epochs = self._epochs(settings)
        subtasks = self.config.targets.subtasks
        return GradientRows(
            pool=self.pool,
            targets=self.targets,
            subtasks=subtasks,
            train=tuple(self.train_gradients(settings, epoch) for epoch in epochs),
            validation=tuple(self.target_gradients(settings, epoch) for epoch in epochs),
            raw=[] if settings.normalise_subtasks else subtasks,
            warmup=self.warmup if len(epochs) > 1 else None,
        )

    def gradient_influence(self, settings: GradientSettings) -> Step:
        """Influence at the warm-up's end, or over the checkpoints of its epochs."""
        matrices = tuple(self._influence_at(settings, epoch) for epoch in self._epochs(settings))
        if len(matrices) == 1:
            return matrices[0]
        return InfluenceOverEpochs(warmup=self.warmup, epoch=matrices)

    def _influence_at(
        self, settings: GradientSettings, epoch: int | None
    ) -> Influence | DirectInfluence:
        subtasks = self.config.targets.subtasks
        raw = [] if settings.normalise_subtasks else subtasks
        scored: dict[str, Any] = {"subtasks": subtasks, "raw": raw}
        if settings.mode == "direct":
            return DirectInfluence(
                **self._at(settings),
                pool=self.pool,
                targets=self.targets,
                recipe=self._recipe(settings, settings.train_direction, epoch),
                val_direction=settings.val_direction,
                **scored,
            )
        return Influence(
            pool=self.pool,
            targets=self.targets,
            train=self.train_gradients(settings, epoch),
            validation=self.target_gradients(settings, epoch),
            **scored,
        )

    # features

    def feature(self, name: str) -> Step:
        """Return the step that makes what a selector calls `name` in `requires`."""
        step = pool_feature(name).made_by(self)
        if step is None:
            raise ConfigError(f"the feature {name!r} exists only in the tiny world.")
        return step

    @property
    def forward_pass(self) -> ForwardPass:
        """Losses and hidden states of the pool."""
        return ForwardPass(**self._pass)

    def forward_passes(self) -> tuple[ForwardPass, TargetForwardPass]:
        """Losses and hidden states of the pool, and of the target tasks."""
        made = self._pass
        made.pop("pool")
        return self.forward_pass, TargetForwardPass(**made, targets=self.targets)

    def clip_passes(self) -> tuple[ClipPass, TargetClipPass]:
        """CLIP's embeddings of the pool, and of the target tasks."""
        own = self.clip_pass
        other = TargetClipPass(
            targets=self.targets, clip=own.clip, trainer=own.trainer, workers=own.workers
        )
        return own, other

    @property
    def coincide_pass(self) -> CoincidePass:
        """COINCIDE's attention outputs of the pool."""
        return CoincidePass(**self._pass, layers=self.config.features.coincide_layers)

    @property
    def spectrum_pass(self) -> SpectrumPass:
        """Singular values of the pool's token states."""
        return SpectrumPass(**self._pass)

    @property
    def vision_token_pass(self) -> VisionTokenPass:
        """Image tokens of the pool in the base's first layer: ScalSelect trains no model."""
        return VisionTokenPass(**{**self._pass, "warmup": None})

    @property
    def attention_trajectory(self) -> AttentionTrajectory:
        """XMAS's singular values over a run of the selection model on the whole pool."""
        c, count = self.config, self.config.features.trajectory_points
        recipe = replace(c.finetune, regime="same_epochs")
        proxy = ProxyRun(**self._trained, train=recipe, points=count)
        made: dict[str, Any] = {
            "pool": self.pool,
            "base": self.selection_base,
            "warmup": proxy,
            "encoding": self.encoding,
            "trainer": c.trainer,
            "token_budget": c.features.token_budget,
        }
        points = [*range(1, count), None]
        return AttentionTrajectory(point=tuple(AttentionPass(**made, point=p) for p in points))

    @property
    def _pass(self) -> dict[str, Any]:
        """What a forward pass over the pool reads: the warm-up's model, or the base's."""
        settings = self.config.features
        return {
            "base": self.selection_base,
            "encoding": self.encoding,
            "trainer": self.config.trainer,
            "pool": self.pool,
            "warmup": self.warmup if settings.model == "warmup" else None,
            "dtype": settings.dtype,
            "token_budget": settings.token_budget,
        }

    @property
    def clip_pass(self) -> ClipPass:
        """CLIP's embeddings of the pool."""
        c = self.config
        if c.features.clip is None and self.world is None:
            raise ConfigError(
                "features.clip is not set, and the CLIP that ships knows the tiny world alone: "
                "choose features=llava15, or features.clip=FOLDER."
            )
        clip = source_ref(c.features.clip or str(TINY_CLIP), self.index)
        return ClipPass(
            pool=self.pool, clip=clip, trainer=c.trainer, workers=self.encoding.num_workers
        )

    @property
    def image_pass(self) -> ImagePass:
        """A vision encoder's class tokens of the pool's images."""
        c = self.config
        if c.features.image_encoder is None and self.world is None:
            raise ConfigError(
                "features.image_encoder is not set, and the CLIP that ships knows the tiny world "
                "alone: choose features=llava15, or features.image_encoder=FOLDER."
            )
        encoder = source_ref(c.features.image_encoder or str(TINY_CLIP), self.index)
        workers = c.data.encoding.num_workers
        return ImagePass(pool=self.pool, encoder=encoder, trainer=c.trainer, workers=workers)

    @property
    def question_pass(self) -> QuestionPass:
        """Losses with and without the question: at the warm-up, on what it was trained on."""
        return QuestionPass(**{**self._pass, "warmup": self.warmup})

    @property
    def self_filter(self) -> SelfFilter:
        """Self-Filter's difficulty of the pool's rows."""
        c = self.config
        chosen = c.features.self_filter
        return SelfFilter(
            base=self.selection_base,
            pool=self.pool,
            clip=self.clip_pass,
            settings=chosen,
            lora=c.lora if chosen.lora else None,
            encoding=self.encoding,
            trainer=c.trainer,
        )

    @property
    def instance_gradients(self) -> InstanceGradients:
        """TIVE's gradients: plain ones of the attention's LoRA, at the warm-up model."""
        settings = replace(
            self.config.gradients,
            mode="store",
            parameters=self.config.features.instance_parameters,
            last_layers=None,
            train_direction="sgd",
            checkpoints="last",
        )
        return InstanceGradients(store=self.train_gradients(settings))

    @property
    def influence_as_released(self) -> Step:
        """ICONS' released influence: part of the way of the full run, MME's gradients unscaled."""
        return self.gradient_influence(self._released_settings)

    @property
    def _released_settings(self) -> GradientSettings:
        return replace(self.config.gradients, checkpoints="full_run", normalise_subtasks=False)

    @property
    def influence_less(self) -> Step:
        """LESS's influence: Adam directions against plain gradients, over the warm-up's epochs."""
        return self.gradient_influence(self._less_settings)

    @property
    def _less_settings(self) -> GradientSettings:
        return replace(
            self.config.gradients,
            mode="store",
            train_direction="adam",
            val_direction="sgd",
            checkpoints="epochs",
        )

    @property
    def influence_as_released_rows(self) -> Step:
        """`influence_as_released` by validation row."""
        return self.gradient_rows(self._released_settings)

    @property
    def influence_less_rows(self) -> Step:
        """`influence_less` by validation row."""
        return self.gradient_rows(self._less_settings)

    @property
    def released_keys(self) -> ReleasedKeys:
        """The content keys of the published subset `features.released`."""
        released = self.config.features.released
        if released is None:
            raise ConfigError(
                "selector=released needs the published subset: set features.released=FILE.json "
                "(LLaVA-ICONS-133K's JSON, say)."
            )
        subset = file_ref(existing(released, "features.released", folder=False), self.index)
        return ReleasedKeys(pool=self.pool, subset=subset)

    # select, finetune, evaluate

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
        return "cpu" if row and row.gpus == 0 else self.config.trainer.device

    def adapter(self, chosen: Select, seed: int) -> FineTune:
        """The adapter trained on `chosen`, from the base model.

        All of the pool takes the same steps in both regimes, so it is trained once for both.
        """
        c = self.config
        whole = chosen.selector == c.references["full"]
        return FineTune(
            base=self.base,
            pool=self.pool,
            selection=chosen,
            train=replace(c.finetune, regime="same_epochs") if whole else c.finetune,
            lora=c.lora,
            encoding=self.encoding,
            trainer=c.trainer,
            seed=seed,
        )

    def scores(self, adapter: FineTune) -> Evaluate:
        """The benchmark scores of an adapter."""
        return Evaluate(
            base=self.base,
            adapter=adapter,
            aspect_ratio=self.encoding.aspect_ratio,
            trainer=self.config.trainer,
            batch_size=self.config.benchmarks.batch_size,
            **self._tests,
        )

    @cached_property
    def _tests(self) -> dict[str, Any]:
        """The benchmarks: lmms-eval's, or files of a world or the user."""
        group, local = self.config.benchmarks, self.config.benchmarks.local
        folder = existing(group.folder, "benchmarks.folder") if local and not self.world else None
        return {
            "tasks": {} if local else chosen_tasks(group.tasks, group.only),
            "only": group.only if local else None,
            "world": self.world if local else None,
            "folder": folder_ref(folder, self.index, "*.parquet") if folder else None,
        }

    def leakage(self, chosen: Select) -> Leakage:
        """Pictures that the tests share with the pool, and with the targets that `chosen` reads."""
        threads = self.config.data.encoding.num_workers
        read = [step for step in ordered([chosen]) if isinstance(step, Targets)]
        return Leakage(
            pool=PoolPrints(pool=self.pool, threads=threads),
            targets=read[0] if read else None,
            threads=threads,
            **self._tests,
        )

    def export(self, chosen: Select, adapter: FineTune) -> Export:
        """The merged model, the adapter and the subset, for other people's programs."""
        return Export(
            base=self.base,
            pool=self.pool,
            selection=chosen,
            adapter=adapter,
            dtype=self.config.trainer.model_dtype,
            aspect_ratio=self.encoding.aspect_ratio,
        )


def rule_of(selector: Mapping[str, Any]) -> str:
    """Name a selector's rule as the user would set it."""
    rule = selector.get("rule")
    return f"selector.rule={rule}" if rule else f"the selector {selector.get('_target_')}"
