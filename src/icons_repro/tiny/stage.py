"""The tiny world as steps: its data, its base model, and the recipe that made the base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from icons_repro.core.errors import ConfigError
from icons_repro.core.imports import bring
from icons_repro.core.refs import Ref, folder_ref
from icons_repro.core.settings import ModelSettings, PretrainSettings, TrainerSettings
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.stage import MadeData
from icons_repro.models.stage import Base
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.weights import NARROW_BASE, TINY_BASE
from icons_repro.training.stage import TrainingStep


@dataclass(frozen=True, eq=False, kw_only=True)
class World(MadeData):
    """Pool, images, target tasks and benchmark files of the tiny world."""

    stage = "world"
    group = "prepare"
    light = True
    weight = 15.0

    settings: WorldSettings

    def run(self, work: Work) -> Counts:
        """Write `pool.json`, `truth.parquet`, `images/`, `targets/`, `benchmarks/`."""
        from icons_repro.tiny.world import build_world

        return build_world(work.out, self.settings)


@dataclass(frozen=True, eq=False, kw_only=True)
class TinyBase(Base):
    """The base that ships with the package, written out."""

    width: int
    shipped: Ref

    def load(self) -> None:
        """Import what writes it; the jobs next to this are the pre-training's."""
        bring("icons_repro.tiny.model")

    def run(self, work: Work) -> None:
        """Write model and processor."""
        from icons_repro.tiny.model import write_tiny_base

        write_tiny_base(work.out, self.width)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pretrain(TrainingStep):
    """The tiny base, from random weights and the pre-training corpus; every weight is trained."""

    stage = "pretrain"
    group = "pretrain"
    version = 4  # the corpus has yes/no prompts as questions are

    settings: PretrainSettings
    trainer: TrainerSettings

    def run(self, work: Work) -> Counts:
        """Write the model, and `shipped.safetensors`, which the package ships."""
        from icons_repro.tiny import jobs

        return jobs.pretrain(self, work)


def tiny_base(settings: ModelSettings, index: Path) -> TinyBase:
    """Return the shipped base of `model.width`; `index` remembers digests (`file_fingerprint`)."""
    if settings.folder:
        raise ConfigError("model.folder is set, but the model is the tiny one: add model=hf.")
    shipped = folder_ref(TINY_BASE, index)
    if settings.width != ModelSettings.width:
        narrow = folder_ref(NARROW_BASE, index)
        shipped = replace(shipped, files={**shipped.files, **narrow.files})
    return TinyBase(width=settings.width, shipped=shipped)
