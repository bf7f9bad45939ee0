"""What every source of influence shares, and how a config becomes one.

A source says which steps give the influence of every pool row on every target task, `[N, T]`, and,
where it has it, on every validation row, `[N, V]`. Any rule (`selector.rule`) then reads either.
Sources see the pool and the target tasks' validation rows, never a benchmark's test rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Protocol

from icons_repro.core.errors import ConfigError
from icons_repro.core.registry import Kind
from icons_repro.core.settings import DataSettings, GradientSettings
from icons_repro.core.step import Step
from icons_repro.core.trees import TARGET
from icons_repro.data.stage import Pool, Targets
from icons_repro.features.stage import ClipPass, ForwardPass, TargetClipPass, TargetForwardPass
from icons_repro.gradients.stage import PoolGradients, TargetGradients
from icons_repro.influence.rows.embedder import Embedder
from icons_repro.influence.stage import EmbeddingRows, MeanInfluence, OwnRows, OwnTargetRows
from icons_repro.models.stage import Base
from icons_repro.training.stage import SliceWarmUp


class Wiring(Protocol):
    """What a source may use of the run's graph (`graph/graph.py`). Asking runs nothing."""

    config: Any
    """The run's settings (`config/run.py: RunConfig`)."""

    @property
    def pool(self) -> Pool:
        """The pool's records."""

    @property
    def targets(self) -> Targets:
        """The target tasks' validation records."""

    @property
    def selection_base(self) -> Base:
        """The model that is selected with."""

    @property
    def warmup(self) -> SliceWarmUp:
        """The warm-up's adapter."""

    @property
    def encoding(self) -> DataSettings:
        """How rows become tensors."""

    def within(self, pool: Pool) -> Wiring:
        """The same run's, whose sources see these rows of its pool alone."""

    def forward_passes(self) -> tuple[ForwardPass, TargetForwardPass]:
        """Losses and hidden states of the pool, and of the target tasks."""

    def clip_passes(self) -> tuple[ClipPass, TargetClipPass]:
        """CLIP's embeddings of the pool, and of the target tasks."""

    def train_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> PoolGradients:
        """The pool's gradients."""

    def target_gradients(
        self, settings: GradientSettings, epoch: int | None = None
    ) -> TargetGradients:
        """The target tasks' gradients."""

    def gradient_influence(self, settings: GradientSettings) -> Step:
        """Influence by the gradients that the settings describe."""

    def gradient_rows(self, settings: GradientSettings) -> Step:
        """The same by validation row."""


class Source(ABC):
    """One representation of a row against a task. Its fields are the keys of `conf/influence/`."""

    name: ClassVar[str]

    @abstractmethod
    def influence(self, wiring: Wiring) -> Step:
        """Return the step that leaves `influence.parquet` (`core/types.py: InfluenceMatrix`)."""

    def by_validation_row(self, wiring: Wiring) -> Step | None:
        """Return the step that leaves what `rows/files.py` reads; None where there is none."""
        return None

    def remedy(self, wiring: Wiring) -> str:
        """Say what to do where a rule needs validation rows and this source has none."""
        return "take influence=rds or influence=gradients."


class RowSource(Source):
    """A source whose influence is the mean over its validation rows. Subclasses give `rows`."""

    @abstractmethod
    def rows(self, wiring: Wiring) -> Step:
        """Return the step that leaves what `influence/rows/files.py` reads."""

    def by_validation_row(self, wiring: Wiring) -> Step:
        """`rows`."""
        return self.rows(wiring)

    def influence(self, wiring: Wiring) -> Step:
        """The mean over each task's validation rows."""
        return MeanInfluence(pool=wiring.pool, rows=self.rows(wiring))


class OwnSource(RowSource, Embedder):
    """A source that embeds rows itself: one file, one YAML. Subclasses give `embed`.

    Its arguments must be fields of a dataclass: they are part of the result's name.
    """

    def rows(self, wiring: Wiring) -> Step:
        """Both sides, embedded by `embed`."""
        config = config_of(self)
        return EmbeddingRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            rows=OwnRows(pool=wiring.pool, source=config),
            validation=OwnTargetRows(targets=wiring.targets, source=config),
            arrays=("rows",),
        )


SOURCES: Kind[Source] = Kind(
    key="influence",
    base=Source,  # type: ignore[type-abstract]
    package=__package__,
    noun="source of influence",
    advice="A source is a class that extends OwnSource or Source (influence/sources/base.py).",
)


def build_source(config: Mapping[str, Any]) -> Source:
    """Build the source that `config[_target_]` names, with the other keys as its arguments.

    Raises `ConfigError`, naming the key and the nearest right one, for whatever it cannot be.
    """
    return SOURCES.build(config)


def config_of(source: Source) -> dict[str, Any]:
    """Return the config that makes this source again."""
    if not is_dataclass(source):
        raise ConfigError(
            f"influence={source.name}: make {type(source).__name__} a dataclass, so that its "
            "arguments are part of the result's name."
        )
    target = f"{type(source).__module__}.{type(source).__qualname__}"
    return {TARGET: target, **{f.name: getattr(source, f.name) for f in fields(source)}}
