"""COINCIDE: clusters of concept and skill, drawn by transferability over density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from icons_repro.core.bounds import Positive, Within
from icons_repro.core.errors import DataError
from icons_repro.core.types import Pool
from icons_repro.features.rows import ordered_map, unit_rows
from icons_repro.selection.base import feature
from icons_repro.selection.mmd import greedy_mmd, mean_kernel
from icons_repro.selection.sets import (
    Choice,
    KMeansSettings,
    SetSelector,
    canonical_rows,
    over_pool,
)

COSINES = 2**22
"""Cosines of centroids held at once: 32 MB."""


@dataclass(frozen=True)
class Coincide(KMeansSettings, SetSelector):
    """Quotas by P_c proportional to exp(S_c / (tau D_c)), greedy MMD^2 inside each cluster.

    Formula: spherical k-means; D_c = mean over all pairs of exp(-||x - y||^2 / (2 sigma^2)); S_c =
    mean of the cosines at most `cutoff` between the language halves of the centroids (0 where
    there is none). Clusters are visited by descending P; quota = round(rows left to take x P_c /
    sum of P not yet visited); a cluster smaller than its quota is taken whole. Inside, the row that
    lowers MMD^2(cluster, chosen) most, again and again. Where rounding or small clusters leave the
    budget short, as the public code does, the clusters with rows left are visited again. Direction:
    high P. Source: G-JWLee/COINCIDE_code, COINCIDE_cluster/tinyllava/eval/score/coincide:
    clustering.py:89-97, cluster_transferability.py:26-43, cluster_wise_prune.py:10-51 (kernel and
    greedy choice) and 80-130 (quotas); the scripts beside it set the defaults here. Complexity:
    k-means plus O(sum |c|^2 d) time, O(N + C d) memory beyond the features. A text-only row has a
    zero vision half; rows with non-finite features come last.
    """

    name: ClassVar[str] = "coincide"
    requires: ClassVar[frozenset[str]] = frozenset({"coincide"})

    tau: Positive = 0.1
    sigma: Positive = 1.0
    cutoff: Annotated[float, Within(-1, 1)] = 0.9

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Cluster, share the budget out, pick in every cluster."""
        given = feature(pool, "coincide")
        rows = canonical_rows(pool, given["rows"], "coincide")
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        found = self.cluster(pool, rows, rng)
        halves = language_halves(found.centroids, int(given["layers"]))
        members = found.members()
        occupied = np.array([c for c, m in enumerate(members) if len(m)])
        members = [members[c] for c in occupied]
        transfer = transferability(halves[occupied], self.cutoff)
        typical = list(ordered_map(lambda m: mean_kernel(rows, m, self.sigma), members))
        score = transfer / np.array([values.mean() for values in typical])
        take = allocate(score / self.tau, np.array([len(m) for m in members]), k)
        picks = ordered_map(
            lambda c: members[c][greedy_mmd(rows, members[c], typical[c], take[c], self.sigma)],
            np.flatnonzero(take).tolist(),
        )
        chosen = np.concatenate(list(picks))
        label = np.searchsorted(occupied, found.labels)
        columns = {"cluster": over_pool(pool, rows, label)}
        scores = over_pool(pool, rows, score[label])
        return Choice(rows.order[chosen], scores, columns, {"clusters": len(members)})


def language_halves(centroids: np.ndarray, layers: int) -> np.ndarray:
    """Language parts of `[C, 2 L h]`, laid out as vision then language for each layer: `[C, L h]`.

    Raises DataError when the width is not 2 x layers x h.
    """
    if layers < 1 or centroids.shape[1] % (2 * layers):
        raise DataError(f"coincide: {centroids.shape[1]} features are not 2 x {layers} layers x h")
    parts = centroids.reshape(len(centroids), layers, 2, -1)
    return np.ascontiguousarray(parts[:, :, 1].reshape(len(centroids), -1))


def transferability(halves: np.ndarray, cutoff: float) -> np.ndarray:
    """S_c: mean of the cosines with all centroids that are at most `cutoff`; float64 `[C]`."""
    unit = unit_rows(halves.astype(np.float64))
    out = np.zeros(len(unit))
    size = max(1, COSINES // len(unit))
    starts = range(0, len(unit), size)
    blocks = ordered_map(lambda s: (s, unit[s : s + size] @ unit.T), starts)
    for start, cosines in blocks:
        counted = cosines <= cutoff
        totals = np.where(counted, cosines, 0.0).sum(axis=1)
        out[start : start + size] = totals / np.maximum(counted.sum(axis=1), 1)
    return out


def allocate(logits: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Rows to take from each cluster: int64 `[C]`, sum min(k, sum(sizes)).

    One visit by descending logit with quota round(left x softmax over the clusters not visited
    yet), capped by what the cluster has left; repeated while rows are missing.
    """
    take = np.zeros(len(sizes), dtype=np.int64)
    left = min(k, int(sizes.sum()))
    order = np.argsort(-logits, kind="stable")
    while left > 0:
        order = order[take[order] < sizes[order]]
        for c, share in zip(order, _shares(logits[order]), strict=True):
            quota = min(round(left * share), int(sizes[c] - take[c]))
            take[c] += quota
            left -= quota
    return take


def _shares(logits: np.ndarray) -> list[float]:
    """Softmax share of each among itself and those after it; `logits` descend. O(C)."""
    drops = np.exp(np.diff(logits)).tolist()
    totals = [1.0]  # sum over j >= i of exp(logit_j - logit_i), from the last to the first
    for drop in reversed(drops):
        totals.append(1.0 + drop * totals[-1])
    return [1.0 / total for total in reversed(totals)]
