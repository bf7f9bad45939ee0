"""BM25: words in common, weighed by how rare they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from icons_repro.core.step import Step
from icons_repro.influence.sources.base import RowSource, Wiring
from icons_repro.influence.stage import Bm25Rows


@dataclass(frozen=True)
class Bm25(RowSource):
    """BM25 score of a pool row for the words of a validation row.

    Formula (method=lucene): sum over words w of the validation row, as often as it has them, of
    idf(w) tf_w / (tf_w + k1 (1 - b + b |d| / mean |d|)), tf_w how often the pool row has w.
    Source: Robertson and Zaragoza 2009; by bm25s (Lu 2024, arXiv:2407.03618). Words are
    lower-cased, none is left out, those of one letter count. Images are not seen. Scores grow with
    the validation row's length, so within a task long rows weigh more in the mean. Cost: no pass of
    any model; O(words).
    """

    name: ClassVar[str] = "bm25"

    k1: float = 1.5
    b: float = 0.75
    method: Literal["lucene", "robertson", "atire"] = "lucene"

    def rows(self, wiring: Wiring) -> Step:
        """The words of both sides."""
        return Bm25Rows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            k1=self.k1,
            b=self.b,
            method=self.method,
        )
