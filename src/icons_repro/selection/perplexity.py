"""Perplexity of the answer under the warm-up model."""

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
class Perplexity(RankingSelector):
    """Rank rows by the perplexity of their answers.

    Formula: exp(mean answer NLL) (`forward_stats["loss"]`, in nats); ranks are taken on the loss,
    which orders rows alike and cannot overflow. Direction: `keep`, the middle band by default
    (Marion et al. 2023). Source: that paper; COINCIDE's repository has no code for it, so the band
    of ICONS' row is not verified. Complexity: O(N log N). Text-only rows have answers like any
    other row.
    """

    name: ClassVar[str] = "perplexity"
    requires: ClassVar[frozenset[str]] = frozenset({"forward_stats"})

    keep: Keep = "middle"

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """The band score of the loss."""
        loss = np.asarray(feature(pool, "forward_stats")["loss"], dtype=np.float64)
        with np.errstate(over="ignore"):
            columns = {"perplexity": np.exp(loss)}
        return Ranking(keep_band(loss, self.keep), -loss, columns)
