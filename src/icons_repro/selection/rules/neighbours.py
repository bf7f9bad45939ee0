"""Coverage by nearest neighbours: rows that are near to many validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.influence.rows.nearest import most_wanted
from icons_repro.selection.base import Ranking
from icons_repro.selection.rules.base import Rule, Seen, to_cosines


@dataclass(frozen=True)
class Neighbours(Rule):
    """Take the rows that are among the K nearest of most validation rows.

    Formula: p_i = |{j : i among the K rows of highest A_ij}| / (K V), high first; K is the first
    with (alpha / C) sum_j sum_{l <= K} (d_j,K+1 - d_j,l) >= (1 - alpha) V, d = 1 - A sorted
    upwards, at most `most` - the closed form of TSDS's transport with uniform shares. Source: TSDS
    (Liu et al. 2024, arXiv:2410.11303), as dcml-lab/targeted-instruction-selection has it,
    selection/tsds_subset.py, `run_tsds_knn_uniform`. Where the budget is larger than what any
    validation row reaches, the rest goes by mean percentile rank; that code goes by position.
    Influence that is no cosine is divided by its largest absolute value. Complexity: one pass,
    O(N V), O(V most) memory.
    """

    name: ClassVar[str] = "knn"
    needs_rows: ClassVar[bool] = True

    alpha: float = 0.01
    """How much diversity counts against nearness."""
    scale: float = 5.0
    """C of TSDS."""
    most: int = 5000
    """K at most; TSDS's L."""

    def choose(self, seen: Seen, k: int) -> Ranking:
        """Shares of the K nearest; ties by mean percentile rank, then key."""
        wanted = most_wanted(seen.by_row, seen.keys, self.most)
        usable = int((wanted.rows[0] >= 0).sum()) if len(wanted.rows) else 0
        share = np.where(np.isnan(seen.mean_rank), np.nan, 0.0)
        notes = {"neighbours": 0}
        if usable:
            values = wanted.values[:, :usable].astype(np.float64)
            count = self.count(1.0 - to_cosines(values, float(np.abs(values).max())))
            near = np.bincount(wanted.rows[:, :count].ravel(), minlength=len(share))
            share = np.where(np.isnan(share), np.nan, near / (count * len(values)))
            notes = {"neighbours": count}
        return Ranking(share, seen.mean_rank, notes=notes)

    def count(self, distances: np.ndarray) -> int:
        """Return K for distances `[V, L]`, each row sorted upwards; 1 at least, L at most."""
        v, most = distances.shape
        k = np.arange(1, most)
        gaps = (k * distances[:, 1:] - np.cumsum(distances, axis=1)[:, :-1]).sum(axis=0)
        enough = np.flatnonzero(self.alpha / self.scale * gaps >= (1.0 - self.alpha) * v)
        return int(k[enough[0]]) if len(enough) else most
