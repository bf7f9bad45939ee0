"""PRISM: rows whose image is least like all others', once what all share is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.rows import FeatureRows, ordered_map, unit_rows
from icons_repro.selection.base import feature, top_k
from icons_repro.selection.centred import Centre, centre_of
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool, quotas


@dataclass(frozen=True)
class Prism(SetSelector):
    """Take the rows with the lowest mean correlation with the others.

    Formula: R_i = mean over j != i of cos(F_i - mu, F_j - mu), mu the mean of all F; by linearity
    ((u_i . sum_j u_j) - 1) / (N - 1) for u of length one. Direction: low. Source: arXiv:2502.12119
    (ACL 2026), read in its abstracts and, for the formulas, in a published summary
    (docs/methods.md, *PRISM*), so second-hand; no code of its authors could be found. Features:
    image tokens after a shallow layer of the model before instruction tuning, averaged
    (`features.vision_depth`, the first: which of the shallow layers the paper takes is not
    verified). `text_only`: "keep" takes every text-only row, as the paper does, and the best images
    for what is left of the budget; where they are no fewer than the budget, or with "proportional",
    they get their share of the pool, at random; "exclude" takes none while rows with an image
    remain. Complexity: O(N d), four passes, O(d) memory. Scores are -R.
    """

    name: ClassVar[str] = "prism"
    requires: ClassVar[frozenset[str]] = frozenset({"vision_tokens"})

    text_only: Literal["keep", "proportional", "exclude"] = "keep"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """The text-only rows' share, and the least redundant images."""
        array = feature(pool, "vision_tokens")["mean"]
        rows = canonical_rows(pool, array, "vision_tokens", usable=pool.has_image)
        scores = over_pool(pool, rows, -redundancy(rows))
        text = np.flatnonzero(~pool.has_image)
        share = self._text_share(len(text), len(pool), k)
        drawn = text[np.argsort(-uniform_by_key(pool, rng)[text])[:share]]
        best = rows.order[:0]
        if k > share and len(rows):
            best, _ = top_k(scores, None, pool.keys, k - share)
            best = best[np.isfinite(scores[best])]
        return Choice(np.concatenate([best, drawn]), scores, notes={"text_only_rows": share})

    def _text_share(self, text: int, rows: int, k: int) -> int:
        if self.text_only == "exclude":
            return 0
        if self.text_only == "keep" and text < k:
            return text
        sizes = np.array([text, rows - text])
        return int(quotas(sizes, sizes, k)[0])


def redundancy(rows: FeatureRows) -> np.ndarray:
    """R of each row, float64 `[n]`, without the n x n matrix; 0 for a row at the mean, or alone."""
    centre = centre_of(rows)

    def total(places: slice) -> np.ndarray:
        return _directions(rows, centre, places).sum(axis=0, dtype=np.float64)

    def own(places: slice) -> np.ndarray:
        units = _directions(rows, centre, places)
        return units @ whole - np.einsum("ij,ij->i", units, units)

    whole = sum(ordered_map(total, rows.slices()), np.zeros(rows.dim))
    found = [np.zeros(0), *ordered_map(own, rows.slices())]
    return np.concatenate(found) / max(len(rows) - 1, 1)


def _directions(rows: FeatureRows, centre: Centre, places: slice) -> np.ndarray:
    """Rows minus the mean, of length one: float64 `[b, d]`."""
    return unit_rows(centre.of(rows, places).astype(np.float64))
