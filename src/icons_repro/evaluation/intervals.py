"""Intervals, p-values and sample sizes from a few pools or seeds and one test set, or several.

A number is measured once in each pool (or seed); its mean is wrong for two reasons:

    between   another pool, warm-up draw or training run would give another value;
    shared    all of them answered the same test questions, and other questions would move them all.

The first is s / sqrt(P), with Student's t at P - 1 degrees of freedom, since P is small. The spread
s holds what the test questions do to one pool alone, so only their common part is left to add: the
mean covariance of the cluster-bootstrap replicates of two pools, which is zero where the pools have
test questions of their own. The interval is that of the sum, t * between + z * shared, and never
narrower than that of the test questions with the runs as they are: two seeds that come to the same
score by luck, or to the same difference, make nothing certain.

The plain hierarchical bootstrap (draw pools, then clusters, take percentiles) has the same two
levels, and is not believable at this size: drawing from three values it covers the truth in 73% of
the cases where pools dominate, and in 99% where test questions do, which it counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
NEGLIGIBLE = 0.01
"""A part of the error below this share of the other is left out of the integral."""
MOST_POOLS = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean over pools or seeds, with what is known about its error."""

    value: float
    pools: int
    """How many pools (or seeds, where all share a pool) it averages."""
    between: float | None
    """Standard error from the spread between pools; None for one pool."""
    shared: float | None
    """Standard error from the test questions that pools share; None without answers. For one
    pool it is the whole error of its test questions."""
    questions: float = 0.0
    """Standard error from test questions with the runs as they are: the least there can be."""

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.between is not None or self.shared is not None

    @property
    def covers(self) -> str:
        """Say what the interval is about."""
        if not self.known:
            return "no interval"
        if self.between is None:
            return "test questions"
        return "pools" if self.shared is None else "pools and test questions"

    def below(self, x: float) -> float:
        """Return the probability that the true value is below `x`."""
        from scipy import stats

        distance = x - self.value
        if distance == 0:
            return 0.5
        found = self._below(distance)
        if self.questions == 0:
            return found
        least = float(stats.norm.cdf(distance / self.questions))
        return max(found, least) if distance < 0 else min(found, least)

    def _below(self, distance: float) -> float:
        """Return the distribution function of t * between + z * shared."""
        from scipy import stats

        between, shared = self.between or 0.0, self.shared or 0.0
        if max(between, shared) == 0:
            return float(distance > 0)
        if between <= NEGLIGIBLE * shared:
            return float(stats.norm.cdf(distance / math.hypot(between, shared)))
        if shared <= NEGLIGIBLE * between:
            return float(stats.t.cdf(distance / math.hypot(between, shared), self.pools - 1))
        grid, weights = _normal_grid()
        inner = stats.t.cdf((distance - shared * grid) / between, self.pools - 1)
        return float(weights @ inner)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the ends of the interval; NaN if there is none. It is symmetric."""
        from scipy import optimize, stats

        if not self.known:
            return math.nan, math.nan
        between, shared = self.between or 0.0, self.shared or 0.0
        upper = (1 + level) / 2
        most = shared * stats.norm.ppf(upper)
        if between:
            most += between * stats.t.ppf(upper, self.pools - 1)
        most = max(most, self.questions * stats.norm.ppf(upper))
        if most == 0:
            return self.value, self.value
        half = optimize.brentq(lambda h: self.below(self.value + h) - upper, 0.0, 1.01 * most)
        return self.value - half, self.value + half

    @property
    def chance_above_zero(self) -> float:
        """The probability that the true value is above zero: for a difference, that A beats B."""
        return 1.0 - self.below(0.0)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "the true value is zero"; NaN without an error."""
        if not self.known:
            return math.nan
        below = self.below(0.0)
        return min(1.0, 2.0 * min(below, 1.0 - below))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; null where there is no interval."""
        low, high = self.interval()
        ends = {"low": low, "high": high} if self.known else {"low": None, "high": None}
        return {"value": self.value, **ends, "pools": self.pools, "covers": self.covers}


def estimate(
    values: Sequence[float],
    draws: Sequence[np.ndarray] | None = None,
    pools: Sequence[Hashable] | None = None,
) -> Estimate:
    """Return the mean of the values over pools, with its error.

    `draws` holds for each value its cluster-bootstrap replicates `[R]`; those of two runs that
    answered the same questions must come from the same drawn clusters. `pools` names the pool of
    each value: values of one pool are averaged first if there are several pools, since seeds on
    one pool say nothing about another.
    """
    each = np.asarray(values, dtype=np.float64)
    drawn = None if draws is None else np.stack(list(draws))
    if pools is not None and len(set(pools)) > 1:
        each, drawn = _by_pool(each, drawn, pools)
    count = len(each)
    between = float(each.std(ddof=1) / math.sqrt(count)) if count > 1 else None
    if drawn is None:
        return Estimate(float(each.mean()), count, between, None)
    questions = float(drawn.mean(axis=0).std(ddof=1))
    return Estimate(float(each.mean()), count, between, _shared(drawn), questions)


def _by_pool(
    each: np.ndarray, drawn: np.ndarray | None, pools: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Average the values of each pool, and their replicates."""
    places: dict[Hashable, list[int]] = {}
    for place, pool in enumerate(pools):
        places.setdefault(pool, []).append(place)
    groups = list(places.values())
    averaged = np.array([each[group].mean() for group in groups])
    if drawn is None:
        return averaged, None
    return averaged, np.stack([drawn[group].mean(axis=0) for group in groups])


def _shared(drawn: np.ndarray) -> float:
    """Return the root of the mean covariance between rows of replicates `[P, R]`."""
    count = len(drawn)
    variances = drawn.var(axis=1, ddof=1).sum()
    if count == 1:
        return float(math.sqrt(variances))
    covariance = (drawn.sum(axis=0).var(ddof=1) - variances) / (count * (count - 1))
    return math.sqrt(max(0.0, float(covariance)))


def _normal_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return points of a standard normal and their weights."""
    grid = np.linspace(-8.0, 8.0, 1601)
    weights = np.exp(-0.5 * grid**2)
    return grid, weights / weights.sum()


def holm(p_values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return Holm's corrected p-values (1979): valid for any dependence among the tests.

    NaN stays NaN and is no test.
    """
    tests = sorted((p, place) for place, p in enumerate(p_values.values()) if not math.isnan(p))
    corrected, least = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tests):
        least = max(least, min(1.0, (len(tests) - rank) * p))
        corrected[place] = least
    return dict(zip(p_values, corrected, strict=True))


def pools_needed(difference: Estimate, power: float = 0.8, level: float = LEVEL) -> int | None:
    """Return how many pools a paired comparison would need to find this difference.

    It takes the observed difference and spread for the true ones. None if it cannot be told (one
    pool), or if not even `MOST_POOLS` would do: then the shared test questions are too few.
    """
    if difference.between is None or difference.value == 0:
        return None
    deviation = difference.between * math.sqrt(difference.pools)
    shared = difference.shared or 0.0
    for pools in range(2, MOST_POOLS + 1):
        if _power(abs(difference.value), deviation, shared, pools, level) >= power:
            return pools
    return None


def _power(difference: float, deviation: float, shared: float, pools: int, level: float) -> float:
    """Return the power of the paired t test, with Satterthwaite's degrees of freedom."""
    from scipy import stats

    error = math.hypot(deviation / math.sqrt(pools), shared)
    if error == 0:
        return 1.0
    ratio = error**2 / (deviation**2 / pools) if deviation else math.inf
    freedom = min((pools - 1) * ratio**2, 1e6)
    critical = stats.t.ppf((1 + level) / 2, freedom)
    return float(stats.nct.sf(critical, freedom, difference / error))
