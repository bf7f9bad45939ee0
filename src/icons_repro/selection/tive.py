"""TIVE: task difficulty decides the mixture, gradient agreement the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.features.rows import Rows
from icons_repro.selection.base import feature
from icons_repro.selection.random_per_source import highest_per_group
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool, quotas


@dataclass(frozen=True)
class Tive(SetSelector):
    """Quotas by mean gradient norm, a softmax draw by agreement inside each source.

    Formula: W_t = mean ||g|| of source t, quota_t = k W_t / sum_t W_t; s_i = mean over j of i's
    source of cos(g_i, g_j); draw without replacement with probability softmax(scale s) (Gumbel
    top-quota). Direction: high. No target set. Differences from the public code: a source smaller
    than its quota is taken whole and the rest goes to the others (it repeats rows), and fractions
    go by largest remainder (it truncates). Source: METHODS.md section 4 ([TIVE]
    select_data_TIVE.py). Complexity: O(N d), two passes over the gradients, O(sources d) memory.
    Text-only rows are their own source; rows without a usable gradient come last.
    """

    name: ClassVar[str] = "tive"
    requires: ClassVar[frozenset[str]] = frozenset({"instance_gradients"})

    scale: float = 0.001
    exclude_sources: Sequence[str] = ()
    """Sources to leave out; the public code drops TextCaps, seen in pre-training."""

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Quotas, scores and the draw."""
        gradients = feature(pool, "instance_gradients")
        norms = np.asarray(gradients["norms"], dtype=np.float64)
        usable = np.isfinite(norms) & ~np.isin(pool.sources, list(self.exclude_sources))
        array = gradients["rows"]
        rows = canonical_rows(pool, array, "instance_gradients", unit=True, usable=usable)
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        names, source = np.unique(pool.sources[rows.order], return_inverse=True)
        sizes = np.bincount(source)
        weights = np.bincount(source, weights=norms[rows.order]) / sizes
        take = quotas(weights, sizes, k)
        scores = agreement(rows, source, len(names))
        noise = rng.gumbel(size=len(rows))
        chosen = highest_per_group(self.scale * scores + noise, source, take)
        notes = {
            "quota_by_source": dict(zip(names.tolist(), take.tolist(), strict=True)),
            "difficulty_by_source": dict(zip(names.tolist(), weights.tolist(), strict=True)),
        }
        return Choice(rows.order[chosen], over_pool(pool, rows, scores), notes=notes)


def agreement(rows: Rows, group: np.ndarray, groups: int) -> np.ndarray:
    """Mean cosine of each row with the rows of its group, itself included: float64 `[n]`.

    By linearity this is the inner product with the group's mean unit row, so no n x n matrix.
    """
    sums = np.zeros((groups, rows.dim))
    for start, x in rows.blocks():
        own = group[start : start + len(x)]
        for g in np.unique(own):
            sums[g] += x[own == g].sum(axis=0, dtype=np.float64)
    means = sums / np.bincount(group, minlength=groups)[:, None]
    out = np.empty(len(rows))
    for start, x in rows.blocks():
        own = group[start : start + len(x)]
        for g in np.unique(own):
            out[start : start + len(x)][own == g] = (x[own == g] * means[g]).sum(axis=1)
    return out
