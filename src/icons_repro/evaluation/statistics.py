"""Recompute a score from per-question answers, and resample it.

Every score used here is a function of sums over independent units (a question; for MME the two
questions about one image), so a bootstrap replicate is the same function of weighted sums, with
multinomial weights: one matrix product for all replicates.
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
    """float64 `[U, C]`: what each resampling unit adds to the sums."""
    combine: Callable[[np.ndarray], np.ndarray]
    """Sums `[..., C]` -> score `[...]`, in the metric's own scale."""
    strata: np.ndarray
    """int64 `[U]`: units are resampled within their stratum (MME's categories)."""

    def score(self) -> float:
        """Return the score of the rows as they are."""
        return float(self.combine(self.columns.sum(axis=0)))


def units_of(statistic: str, rows: Sequence[Row]) -> Units | None:
    """Return the units of a benchmark's answers; None if the score cannot be recomputed."""
    if not rows or any(row.get("score") is None for row in rows):
        return None
    builders = {"mean": _mean, "f1": _f1, "mme": _mme, "ratio": _ratio}
    return builders[statistic](rows) if statistic in builders else None


def standard_error(units: Units, resamples: int = 1000, seed: int = 0) -> float:
    """Return the standard error: exact for a mean, by the bootstrap otherwise."""
    if units.combine is _quotient and np.all(units.columns[:, 1] == 1):
        values = units.columns[:, 0]
        return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(replicates([units], resamples, seed)[0].std(ddof=1))


def replicates(aligned: Sequence[Units], resamples: int, seed: int) -> np.ndarray:
    """Return bootstrap scores float64 `[len(aligned), resamples]`.

    All of `aligned` must hold the same units in the same order: each replicate draws the same
    units for all of them, which is what makes their differences precise.
    """
    weights_of = _weights(aligned[0].strata, resamples, np.random.default_rng(seed))
    parts = [
        np.stack([units.combine(weights @ units.columns) for units in aligned])
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


def _one_stratum(columns: Any, combine: Callable[[np.ndarray], np.ndarray]) -> Units:
    array = np.asarray(columns, dtype=np.float64)
    return Units(array, combine, np.zeros(len(array), dtype=np.int64))


def _quotient(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _f1_of(sums: np.ndarray) -> np.ndarray:
    true, found_wrong, missed = sums[..., 0], sums[..., 1], sums[..., 2]
    total = 2 * true + found_wrong + missed
    return np.divide(2 * true, total, out=np.zeros_like(total), where=total > 0)


def _mean(rows: Sequence[Row]) -> Units:
    return _one_stratum([[float(row["score"]), 1.0] for row in rows], _quotient)


def _ratio(rows: Sequence[Row]) -> Units | None:
    """LLaVA-in-the-wild: the model's points over the reference answers' points."""
    scores = [row["score"] for row in rows]
    if not all(isinstance(s, Sequence) and len(s) == 2 for s in scores):
        return None
    return _one_stratum(
        [[float(model), float(reference)] for reference, model in scores], _quotient
    )


def _f1(rows: Sequence[Row]) -> Units:
    """POPE's F1 of "yes", as lmms-eval counts it: an answer that is neither word is no miss."""
    said = np.array([str(row["prediction"]).strip().lower() for row in rows])
    truth = np.array([str(row["answer"]).strip().lower() == "yes" for row in rows])
    yes, no = said == "yes", said == "no"
    return _one_stratum(np.stack([yes & truth, yes & ~truth, no & truth], axis=1), _f1_of)


def _mme(rows: Sequence[Row]) -> Units | None:
    """MME: in each category, 100 * (accuracy + share of images with both questions right)."""
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        pairs[str(row["category"]), str(row["question_id"])].append(float(row["score"]))
    if any(len(scores) != 2 for scores in pairs.values()):
        return None
    categories = sorted({category for category, _ in pairs})
    strata = np.array([categories.index(category) for category, _ in pairs], dtype=np.int64)
    values = np.array([50.0 * sum(s) + 100.0 * (sum(s) == 2) for s in pairs.values()])
    sizes = np.bincount(strata)
    return Units((values / sizes[strata])[:, None], lambda sums: sums[..., 0], strata)
