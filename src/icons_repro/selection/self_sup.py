"""Self-supervised prototypes: distance to the nearest k-means centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.rows import Array2D, FeatureRows, SideBySide
from icons_repro.selection.base import (
    Keep,
    Ranking,
    RankingSelector,
    feature,
    keep_band,
)
from icons_repro.selection.sets import KMeansSettings, canonical_rows, over_pool


@dataclass(frozen=True)
class SelfSup(KMeansSettings, RankingSelector):
    """Rank rows by their distance to the nearest prototype of a self-supervised space.

    Formula: k-means; s_i = 1 - max_c cos(x_i, c), or the distance ||x_i - c|| with
    `metric: euclidean`. Direction: `keep`, high (hard) in the original where data abound
    (Sorscher et al. 2022). Source: that paper; features, count of clusters and
    direction of the paper's row are not verified. Complexity: k-means. A text-only row has a zero
    image half in `clip_joint`, and comes last with `clip_image`; so do non-finite rows.
    """

    name: ClassVar[str] = "self_sup"

    features: Literal["clip_joint", "clip_image", "clip_text", "hidden_last", "hidden_mean"] = (
        "clip_joint"
    )
    metric: Literal["cosine", "euclidean"] = "cosine"
    keep: Keep = "high"

    @property
    def requires(self) -> frozenset[str]:
        """The artifact that holds the features."""
        return frozenset({"clip" if self.features.startswith("clip") else self.features})

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """The band score of the distance."""
        rows = self._rows(pool)
        distance = np.full(len(pool), np.nan)
        if not len(rows):
            return Ranking(distance)
        spherical = self.metric == "cosine"
        found = self.cluster(pool, rows, rng, spherical)
        fit = found.fit.astype(np.float64)
        distance = over_pool(pool, rows, 1 - fit if spherical else np.sqrt(np.maximum(fit, 0)))
        columns = {"distance": distance, "cluster": over_pool(pool, rows, found.labels)}
        return Ranking(keep_band(distance, self.keep), None, columns)

    def _rows(self, pool: Pool) -> FeatureRows:
        unit = self.metric == "cosine"
        if not self.features.startswith("clip"):
            return canonical_rows(pool, feature(pool, self.features), self.features, unit)
        part = self.features.removeprefix("clip_")
        array: Array2D = joint_clip(pool) if part == "joint" else feature(pool, "clip")[part]
        return canonical_rows(pool, array, "clip", unit)


def joint_clip(pool: Pool) -> SideBySide:
    """Image half, then text half: float32 `[N, 2d]`; text-only rows have a zero image half."""
    clip = feature(pool, "clip")
    return SideBySide((clip["image"], clip["text"]), (pool.has_image, None))
