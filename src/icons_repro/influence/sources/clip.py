"""CLIP: how alike two rows look, read, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from icons_repro.core.step import Step
from icons_repro.influence.sources.base import RowSource, Wiring
from icons_repro.influence.stage import EmbeddingRows


@dataclass(frozen=True)
class Clip(RowSource):
    """cos of CLIP's embeddings of a pool row and a validation row.

    Formula: part=image or text: cos of that side; part=both: the mean of the two cosines. Source:
    the embedding baseline of targeted selection (Ivison et al. 2025, arXiv:2503.01807, which embeds
    text alone), with CLIP for images; no public code pairs the two for this task. Text is cut at
    CLIP's 77 tokens; a row's images are averaged. Without an image a row is excluded with
    part=image, and has 0 for that half with part=both. Cost: one CLIP pass, shared with CLIP-Score.
    """

    name: ClassVar[str] = "clip"

    part: Literal["image", "text", "both"] = "both"

    def rows(self, wiring: Wiring) -> Step:
        """The pool's and the targets' embeddings."""
        pool, targets = wiring.clip_passes()
        return EmbeddingRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            rows=pool,
            validation=targets,
            arrays=("image", "text") if self.part == "both" else (self.part,),
            missing="zero" if self.part == "both" else "exclude",
        )
