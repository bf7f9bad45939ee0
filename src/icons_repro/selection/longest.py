"""The longest rows: a baseline that needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.selection.base import Ranking, RankingSelector, feature


@dataclass(frozen=True)
class Longest(RankingSelector):
    """Take the rows with most words.

    Formula: number of words. `of`: "turns" counts questions and answers together
    (`Pool.words`); "answers" counts the answers alone, as the source does. Direction: high.
    Source: Zhao et al. 2024, *Long Is More for Alignment*; not in the paper's table. Complexity:
    O(N). Text-only rows are rows like any other.
    """

    name: ClassVar[str] = "longest"

    of: Literal["turns", "answers"] = "turns"

    @property
    def requires(self) -> frozenset[str]:
        """Nothing, or the number of words of each row's answers."""
        return frozenset({"answer_words"} if self.of == "answers" else ())

    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """Word counts; equal counts go by content key."""
        words = pool.words if self.of == "turns" else feature(pool, "answer_words")
        return Ranking(np.asarray(words, dtype=np.float64))
