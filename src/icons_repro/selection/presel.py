"""PreSel: how much the question matters decides the mixture, typical images the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from icons_repro.core.bounds import Count, Positive, Within
from icons_repro.core.types import Pool
from icons_repro.features.clustering import kmeans, members_of
from icons_repro.features.rows import FeatureRows, ordered_map
from icons_repro.selection.base import feature
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool, quotas

TILE = 1024
"""Rows whose cosines with their cluster are held at once."""


@dataclass(frozen=True)
class PreSel(SetSelector):
    """Quotas by source from losses with and without the question, typical images of clusters.

    Formula: value_t = mean over the reference rows of source t of L(answer | image, question) /
    L(answer | image); quota_t ~ exp(-value_t / T), T = 1 / sqrt(number of sources). Inside a
    source: k-means of the images' unit vectors, `cluster_share` times its rows clusters; quotas by
    the clusters' free rows, rounded, the rest to the largest clusters (or from the smallest); in a
    cluster the highest mean cosine to its `neighbours` nearest free rows. Direction: low value,
    high cosine. The reference rows, those that the warm-up was trained on, are chosen beforehand
    and count in the budget, as in the public code; where they would fill it they are rows like any
    other. Source: bardisafa/PreSel, presel/llava_task_importance.py:6-54 (value), data_process/
    kmeans_clust.py:118-179 and 285-310 (choice; data_selection.py:128-160 adds the reference),
    clust_utils.py:42-73 (cosines); arXiv:2503.07591. Differences: a source smaller than its quota
    is taken whole and the rest goes to the others; fractions go by largest remainder; a source
    without reference rows has the mean value, and without any all weigh alike; k-means starts at
    random rows (sklearn's is k-means++). Complexity: k-means plus O(sum |c|^2 d). Text-only rows
    have no image and come last, where the public code leaves them out.
    """

    name: ClassVar[str] = "presel"
    requires: ClassVar[frozenset[str]] = frozenset({"image_cls", "question_losses"})

    temperature: Positive | None = None
    """None is 1 / sqrt(number of sources)."""
    cluster_share: Annotated[float, Within(0, 1, low_open=True)] = 0.01
    neighbours: Count = 5
    iterations: Count = 50

    @property
    def uses_device(self) -> bool:
        """True: k-means is most of the work."""
        return True

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Values, quotas, and typical rows of every source."""
        array = feature(pool, "image_cls")
        rows = canonical_rows(pool, array, "image_cls", unit=True, usable=pool.has_image)
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        losses = feature(pool, "question_losses")
        ratio = loss_ratio(losses["asked"], losses["unasked"])[rows.order]
        names, source = np.unique(pool.sources[rows.order], return_inverse=True)
        value = source_values(ratio, source, len(names))
        free = ~np.isfinite(ratio)
        if (~free).sum() >= k:
            free[:] = True
        weights = softmax(-value / (self.temperature or len(names) ** -0.5))
        take = quotas(weights, np.bincount(source[free], minlength=len(names)), k - (~free).sum())
        typical = np.full(len(rows), np.nan)
        chosen = [np.flatnonzero(~free)]
        for places, count in zip(members_of(source, len(names)), take.tolist(), strict=True):
            if count:
                chosen.append(self._from_source(rows, places, free, count, typical, pool, rng))
        notes = {
            "value_by_source": dict(zip(names.tolist(), value.tolist(), strict=True)),
            "quota_by_source": dict(zip(names.tolist(), take.tolist(), strict=True)),
            "reference_rows_kept": int((~free).sum()),
        }
        scores = over_pool(pool, rows, typical)
        return Choice(rows.order[np.concatenate(chosen)], scores, notes=notes)

    def _from_source(
        self,
        rows: FeatureRows,
        places: np.ndarray,
        free: np.ndarray,
        count: int,
        typical: np.ndarray,
        pool: Pool,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Cluster a source, write its free rows' typicality, return the `count` places taken."""
        own = FeatureRows(rows.array, rows.order[places], unit=True)
        clusters = max(1, int(self.cluster_share * len(places)))
        labels = kmeans(
            own, clusters, rng, self.iterations, spherical=False, device=pool.device
        ).labels
        members = members_of(labels, clusters)
        open_ = [places[m][free[places[m]]] for m in members]
        share = cluster_quotas([len(o) for o in open_], [len(m) for m in members], count)
        taken = []
        found = ordered_map(lambda o: (o, typicality(rows, o, self.neighbours)), open_)
        for (free_rows, values), quota in zip(found, share, strict=True):
            typical[free_rows] = values
            taken.append(free_rows[np.argsort(-values, kind="stable")[:quota]])
        return np.concatenate(taken)


def loss_ratio(asked: np.ndarray, unasked: np.ndarray) -> np.ndarray:
    """Loss with the question over loss without, float64 `[N]`; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.asarray(asked, dtype=np.float64) / np.asarray(unasked, dtype=np.float64)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def source_values(ratio: np.ndarray, source: np.ndarray, sources: int) -> np.ndarray:
    """Mean ratio of each source's reference rows, float64 `[S]`; the sources' mean where none."""
    known = np.isfinite(ratio)
    if not known.any():
        return np.ones(sources)
    counts = np.bincount(source[known], minlength=sources)
    sums = np.bincount(source[known], weights=ratio[known], minlength=sources)
    values = sums / np.maximum(counts, 1)
    return np.where(counts > 0, values, values[counts > 0].mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp, scaled to the sum 1."""
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def cluster_quotas(free: list[int], sizes: list[int], count: int) -> list[int]:
    """Rows to take of each cluster: its share of the free rows, rounded, then corrected by ones.

    What is missing is added to clusters by descending size, what is too much is taken from them by
    ascending size, one row a cluster, again and again. `count` is at most the sum of `free`.
    """
    total = sum(free)
    take = [min(round(n / total * count), n) for n in free]
    order = sorted(range(len(sizes)), key=lambda c: sizes[c], reverse=True)
    while (missing := count - sum(take)) != 0:
        step = 1 if missing > 0 else -1
        ascending = sorted(order, key=lambda c: sizes[c])
        fits = [c for c in (order if step > 0 else ascending) if 0 <= take[c] + step <= free[c]]
        for c in fits[: abs(missing)]:
            take[c] += step
    return take


def typicality(rows: FeatureRows, places: np.ndarray, neighbours: int) -> np.ndarray:
    """Mean cosine of each of `places` to its nearest others, float64 `[m]`; 0 for one alone."""
    if len(places) < 2:
        return np.zeros(len(places))
    x = rows.gather(places)
    count, out = min(neighbours, len(places) - 1), np.empty(len(places))
    for start in range(0, len(x), TILE):
        cosines = x[start : start + TILE] @ x.T
        np.fill_diagonal(cosines[:, start:], -np.inf)
        nearest = np.partition(cosines, len(x) - count, axis=1)[:, len(x) - count :]
        out[start : start + TILE] = np.sort(nearest, axis=1).mean(axis=1, dtype=np.float64)
    return out
