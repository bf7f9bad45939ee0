"""Base models as steps: a model's folder, or one put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icons_repro.core.refs import Ref
from icons_repro.core.step import Step
from icons_repro.core.work import Work


@dataclass(frozen=True, eq=False, kw_only=True)
class Base(Step):
    """A model that runs start from, as a plain Hugging Face folder."""

    stage = "base"
    group = "prepare"
    version = 2  # the template marks the space before an answer; vocabulary padded to 64


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderBase(Base):
    """Links to a model in transformers' layout, its chat template ours if one is asked for."""

    folder: Ref
    template: str | None
    images: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its image processor that are changed."""

    def run(self, work: Work) -> None:
        """Link the files; write the processor anew where something of it changes."""
        from icons_repro.models.hub import fetch
        from icons_repro.models.jobs import link_model

        link_model(fetch(self.folder.path), self.template, work.out, self.images)


@dataclass(frozen=True, eq=False, kw_only=True)
class AssembledBase(Base):
    """A language model, a CLIP tower and LLaVA's projector, joined."""

    language: Ref
    vision: Ref
    projector: Ref
    template: str

    def run(self, work: Work) -> None:
        """Write model and processor."""
        from icons_repro.models.assemble import assemble
        from icons_repro.models.hub import fetch

        projector = fetch(self.projector.path, ["*.bin"])
        parts = fetch(self.language.path), fetch(self.vision.path), projector
        assemble(*parts, work.out, template=self.template)
