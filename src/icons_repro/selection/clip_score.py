"""CLIP-Score: how well the text fits the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.rows import BLOCK_FLOATS
from icons_repro.selection.base import Keep, feature, keep_band, top_k
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.sets import Choice, SetSelector, quotas


@dataclass(frozen=True)
class ClipScore(SetSelector):
    """Rank rows by the cosine of their image and text embeddings.

    Formula: cos(CLIP_img, CLIP_txt), text truncated to CLIP's 77 tokens. Direction: `keep`, high
    in the original (Hessel et al. 2021). A text-only row has no such cosine. `text_only`:
    "exclude" takes none of them while rows with an image remain; "proportional" gives them the
    share of the budget that they have in the pool, drawn at random. Source: that paper; the CLIP
    of ICONS' row is not verified, and no public code has a rule for text-only rows. Complexity:
    O(N d).
    """

    name: ClassVar[str] = "clip_score"
    requires: ClassVar[frozenset[str]] = frozenset({"clip"})

    keep: Keep = "high"
    text_only: Literal["exclude", "proportional"] = "exclude"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """The best cosines, beside a random share of text-only rows if asked for."""
        clip = feature(pool, "clip")
        cosine = row_cosines(clip["image"], clip["text"])
        text = np.flatnonzero(~pool.has_image)
        k_text = 0
        if self.text_only == "proportional":
            sizes = np.array([len(text), len(pool) - len(text)])
            k_text = int(quotas(sizes, sizes, k)[0])
        drawn = text[np.argsort(-uniform_by_key(pool, rng)[text])[:k_text]]
        cosine[~pool.has_image] = np.nan
        scored = int(np.isfinite(cosine).sum())
        best, _ = top_k(keep_band(cosine, self.keep), None, pool.keys, max(1, k - k_text))
        best = best[np.isfinite(cosine[best])][: k - k_text]
        notes = {"rows_without_score": len(pool) - scored, "text_only_rows_drawn": k_text}
        return Choice(np.concatenate([best, drawn]), cosine, notes=notes)


def row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of `a` with the same row of `b`: float64 `[N]`, NaN where undefined."""
    out = np.empty(len(a))
    size = max(32, BLOCK_FLOATS // a.shape[1])
    for start in range(0, len(a), size):
        x = np.asarray(a[start : start + size], dtype=np.float64)
        y = np.asarray(b[start : start + size], dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            lengths = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
            out[start : start + size] = (x * y).sum(axis=1) / lengths
    return out
