"""Recompute a score from per-question answers, and resample it.

Every score used here is a function of sums over units (a question; for MME the two questions about
one image). Questions about one picture are right or wrong together, so what is drawn is a cluster:
all units of one picture. A bootstrap replicate is then the same function of weighted sums, with
multinomial weights over clusters: one matrix product for all replicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = Mapping[str, Any]
CHUNK = 4_000_000
"""Random draws held at once while resampling."""


@dataclass(frozen=True)
class Units:
    """What a score is made of."""

    columns: np.ndarray
    """float64 `[U, C]`: what each unit adds to the sums."""
    combine: Callable[[np.ndarray], np.ndarray]
    """Sums `[..., C]` -> score `[...]`, in the metric's own scale."""
    strata: np.ndarray
    """int64 `[U]`: clusters are resampled within their stratum (MME's categories)."""
    clusters: np.ndarray
    """int64 `[U]`: the cluster of each unit, numbered from 0 in order of appearance. No cluster
    reaches over two strata."""

    def score(self) -> float:
        """Return the score of the rows as they are."""
        return float(self.combine(self.columns.sum(axis=0)))

    def sums_over(self, clusters: np.ndarray) -> np.ndarray:
        """Return what each cluster adds to the sums, float64 `[clusters, C]`."""
        sums = np.zeros((int(clusters.max()) + 1, self.columns.shape[1]))
        np.add.at(sums, clusters, self.columns)
        return sums


def units_of(statistic: str, rows: Sequence[Row]) -> Units | None:
    """Return the units of a benchmark's answers; None if the score cannot be recomputed."""
    if not rows or any(row.get("score") is None for row in rows):
        return None
    builders = {"mean": _mean, "f1": _f1, "mme": _mme, "ratio": _ratio}
    return builders[statistic](rows) if statistic in builders else None


def standard_error(units: Units, resamples: int = 1000, seed: int = 0) -> float:
    """Return the standard error over clusters: closed for a mean, by the bootstrap otherwise.

    A mean over questions of C clusters has the variance C / (C - 1) * sum_c (sum_{i in c} (s_i -
    mean))^2 / n^2, which is the usual one where every question is its own cluster (Miller 2024,
    arXiv:2411.00640, equation 4, with the correction for few clusters).
    """
    if units.combine is not _quotient:
        return float(replicates([units], resamples, seed)[0].std(ddof=1))
    sums = units.sums_over(units.clusters)
    count = len(sums)
    if count < 2:
        return 0.0
    residuals = sums[:, 0] - units.score() * sums[:, 1]
    return float(np.sqrt(count / (count - 1) * np.sum(residuals**2)) / sums[:, 1].sum())


def replicates(aligned: Sequence[Units], resamples: int, seed: int) -> np.ndarray:
    """Return bootstrap scores float64 `[len(aligned), resamples]`.

    All of `aligned` must hold the same units in the same order: each replicate draws the same
    clusters for all of them, which is what makes their differences precise. The clusters are those
    of whichever has the fewest: answers written before pictures were recorded have none.
    """
    clusters = min((units.clusters for units in aligned), key=lambda c: int(c.max()))
    sums = [units.sums_over(clusters) for units in aligned]
    strata = np.zeros(len(sums[0]), dtype=np.int64)
    strata[clusters] = aligned[0].strata
    weights_of = _weights(strata, resamples, np.random.default_rng(seed))
    parts = [
        np.stack([u.combine(weights @ s) for u, s in zip(aligned, sums, strict=True)])
        for weights in weights_of
    ]
    return np.concatenate(parts, axis=1)


def _weights(strata: np.ndarray, resamples: int, rng: np.random.Generator) -> Any:
    """Yield float64 `[b, U]`: how often each unit was drawn, `resamples` rows in all."""
    n = len(strata)
    step = max(1, CHUNK // n)
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        weights = np.empty((rows, n))
        for members in groups:
            size = len(members)
            draws = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
            counts = np.bincount(draws.ravel(), minlength=rows * size)
            weights[:, members] = counts.reshape(rows, size)
        yield weights


def clusters_of(rows: Sequence[Row]) -> np.ndarray:
    """Return int64 `[n]`: rows of one `cluster` share a number; a row without is its own."""
    numbers: dict[Any, int] = {}
    named = [row.get("cluster") or place for place, row in enumerate(rows)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in named], dtype=np.int64)


def _by_picture(
    rows: Sequence[Row], columns: Any, combine: Callable[[np.ndarray], np.ndarray]
) -> Units:
    array = np.asarray(columns, dtype=np.float64)
    return Units(array, combine, np.zeros(len(array), dtype=np.int64), clusters_of(rows))


def _quotient(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _f1_of(sums: np.ndarray) -> np.ndarray:
    true, found_wrong, missed = sums[..., 0], sums[..., 1], sums[..., 2]
    total = 2 * true + found_wrong + missed
    return np.divide(2 * true, total, out=np.zeros_like(total), where=total > 0)


def _mean(rows: Sequence[Row]) -> Units:
    return _by_picture(rows, [[float(row["score"]), 1.0] for row in rows], _quotient)


def _ratio(rows: Sequence[Row]) -> Units | None:
    """LLaVA-in-the-wild: the model's points over the reference answers' points."""
    scores = [row["score"] for row in rows]
    if not all(isinstance(s, Sequence) and len(s) == 2 for s in scores):
        return None
    points = [[float(model), float(reference)] for reference, model in scores]
    return _by_picture(rows, points, _quotient)


def _f1(rows: Sequence[Row]) -> Units:
    """POPE's F1 of "yes", as lmms-eval counts it: an answer that is neither word is no miss."""
    said = np.array([str(row["prediction"]).strip().lower() for row in rows])
    truth = np.array([str(row["answer"]).strip().lower() == "yes" for row in rows])
    yes, no = said == "yes", said == "no"
    return _by_picture(rows, np.stack([yes & truth, yes & ~truth, no & truth], axis=1), _f1_of)


def _mme(rows: Sequence[Row]) -> Units | None:
    """MME: in each category, 100 * (accuracy + share of images with both questions right).

    A unit is the two questions about an image, and so is a cluster.
    """
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        pairs[str(row["category"]), str(row["question_id"])].append(float(row["score"]))
    if any(len(scores) != 2 for scores in pairs.values()):
        return None
    categories = sorted({category for category, _ in pairs})
    strata = np.array([categories.index(category) for category, _ in pairs], dtype=np.int64)
    values = np.array([50.0 * sum(s) + 100.0 * (sum(s) == 2) for s in pairs.values()])
    sizes = np.bincount(strata)
    alone = np.arange(len(values), dtype=np.int64)
    return Units((values / sizes[strata])[:, None], lambda sums: sums[..., 0], strata, alone)
