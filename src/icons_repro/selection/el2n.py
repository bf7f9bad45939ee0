"""EL2N: how far the model's prediction is from the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.selection.base import (
    Keep,
    Ranking,
    RankingSelector,
    feature,
    keep_band,
)


@dataclass(frozen=True)
class EL2N(RankingSelector):
    """Rank rows by their error norm.

    Formula: mean over answer tokens of ||softmax - onehot||_2 (`forward_stats["el2n"]`).
    Direction: `keep`. The original (Paul et al. 2021, data_diet) keeps high and averages at least
    ten models; COINCIDE's code leaves the band to a flag, which band the paper's table used is
    not verified. Source: G-JWLee/COINCIDE_code, COINCIDE_cluster/tinyllava/eval/score/el2n/
    score_el2n.py:207-212 (the score), COINCIDE_train/llava/train/train.py:702-710 (the band).
    Complexity: O(N log N). Text-only rows have answer tokens like any other row.
    """

    name: ClassVar[str] = "el2n"
    requires: ClassVar[frozenset[str]] = frozenset({"forward_stats"})

    keep: Keep = "middle"

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """The band score of the error norm."""
        el2n = np.asarray(feature(pool, "forward_stats")["el2n"], dtype=np.float64)
        return Ranking(keep_band(el2n, self.keep), -el2n, {"el2n": el2n})
