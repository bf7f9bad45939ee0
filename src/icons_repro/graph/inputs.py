"""What a run starts from: its settings, pool, target tasks and base models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from icons_repro.config.run import RunConfig
from icons_repro.core.refs import existing, file_ref, folder_ref
from icons_repro.core.typed import checked_part
from icons_repro.data.formats.choice import converted_pool, converted_targets
from icons_repro.data.image_looks import ImageLooks
from icons_repro.data.stage import DrawnTargets, MadeData, Pool, Targets
from icons_repro.data.targets.choice import drawn_targets
from icons_repro.graph.bases import base_of
from icons_repro.models.stage import Base
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.stage import Pretrain, World


class Inputs:
    """What nearly every step of a run reads. Each is looked up when it is first asked for."""

    def __init__(
        self, config: RunConfig, looks: ImageLooks | None = None, pool: Pool | None = None
    ) -> None:
        """`looks` is what the graphs of one sweep look at images with.

        `pool`: the rows that sources see, where these are not all of the pool.
        """
        self.config = config
        self.looks = looks or ImageLooks(self.cache)
        self.encoding = config.data.encoding
        self.trainer = config.trainer
        self._seen = pool

    @property
    def cache(self) -> Path:
        """The cache's root folder."""
        return Path(self.config.paths.cache)

    @property
    def index(self) -> Path:
        """Where digests of the user's files are remembered."""
        return self.cache / "files.json"

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

    @cached_property
    def whole_pool(self) -> Pool:
        """All of the pool's records, which the warm-up's slice is drawn from."""
        data = self.config.data
        if made := converted_pool(data, self.cache, checked_part) or self.world:
            return Pool(policy=data.policy, world=made)
        source = file_ref(existing(data.json, "data.json", folder=False), self.index)
        folder = existing(data.images, "data.images").absolute()
        images = self.looks.ref(Pool.stage, source, folder, data.image_identity)
        blocks = tuple((data.blocks or {}).items())
        return Pool(policy=data.policy, source=source, images=images, blocks=blocks)

    @cached_property
    def targets(self) -> Targets:
        """The target tasks' validation records."""
        data, settings = self.config.data, self.config.targets
        converted = converted_targets(settings, data, self.cache, checked_part)
        made: MadeData | DrawnTargets | None = converted or self.world
        if settings.draws:
            made = DrawnTargets(**drawn_targets(settings))
        if settings.folder is None and made:
            return Targets(policy=data.policy, tasks=settings.tasks, made=made)
        folder = existing(settings.folder, "targets.folder")
        shown = existing(settings.images, "targets.images").absolute()
        source = folder_ref(folder, self.index, "*.json")
        images = self.looks.ref(Targets.stage, source, shown, data.image_identity)
        return Targets(policy=data.policy, tasks=settings.tasks, source=source, images=images)

    @cached_property
    def base(self) -> Base:
        """The base model that is trained and scored."""
        return base_of(self.config.model, self.index)

    @cached_property
    def selection_base(self) -> Base:
        """The base model that is selected with: the same, unless `selection_model` is another."""
        other = self.config.selection_model
        return base_of(other, self.index) if other else self.base

    @cached_property
    def pretrained(self) -> Pretrain:
        """The tiny base, rebuilt."""
        return Pretrain(settings=self.config.pretrain, trainer=self.trainer)
