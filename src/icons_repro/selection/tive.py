"""TIVE: task difficulty decides the mixture, gradient agreement the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.core.types import Pool
from icons_repro.features.rows import FeatureRows
from icons_repro.selection.base import feature
from icons_repro.selection.random_per_source import highest_per_group
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool, quotas


@dataclass(frozen=True)
class Tive(SetSelector):
    """Quotas by mean gradient norm, a softmax draw by agreement inside each source.

    Formula: W_t = mean ||g|| of source t, quota_t = k W_t / sum_t W_t; s_i = mean over j of i's
    source of cos(g_i, g_j); draw without replacement with probability softmax(scale s) (Gumbel
    top-quota). Direction: high. No target set. Source: RUCAIBox/TIVE, select_data_TIVE.py:53-67
    (W), 73 (rows of length one), 86-93 (quotas), 105-125 (s and the draw), 57-59 (TextCaps left
    out). Differences: a source smaller than its quota is taken whole and the rest goes to the
    others (it repeats rows); fractions go by largest remainder (it truncates); ||g|| is the
    projected gradient's, whose expected square is the gradient's (utils.py:274-290: before the
    projection); gradients are the run's warm-up's, in its projection (it trains its own on 8% of
    the rows, as many of each source, and projects to 8,192). Complexity: O(N d), two passes over
    the gradients, O(sources d) memory. A source is what the pool calls one: `data.blocks` for
    LLaVA-665K. Rows without a usable gradient and those of left-out sources come last.
    """

    name: ClassVar[str] = "tive"
    requires: ClassVar[frozenset[str]] = frozenset({"instance_gradients"})

    scale: float = 0.001
    exclude_sources: Sequence[str] = ()
    """Sources to leave out; the public code drops TextCaps, seen in pre-training. One that the pool
    does not have raises ConfigError."""

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Quotas, scores and the draw."""
        self._check_sources(pool)
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

    def _check_sources(self, pool: Pool) -> None:
        known = np.unique(pool.sources)
        unknown = [name for name in self.exclude_sources if name not in known]
        if unknown:
            raise ConfigError(
                f"selector.exclude_sources names {unknown[0]!r}, which is no source of this pool: "
                f"it has {', '.join(known.tolist())}"
            )


def agreement(rows: FeatureRows, group: np.ndarray, groups: int) -> np.ndarray:
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
