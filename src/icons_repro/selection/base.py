"""What every selector shares: the protocol, budget -> k, the top-k rule and its ties.

A selector maps arrays in pool order to a `Selection`. It never sees a model, an image or a config
file, and its choice depends on the rows' content keys, never on the order of the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import numpy as np

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import Pool, Selection, TieStatistics
from icons_repro.influence.ranks import average_ranks

Keep = Literal["high", "low", "middle"]


@runtime_checkable
class Selector(Protocol):
    """One way of choosing training rows."""

    name: ClassVar[str]

    @property
    def fixed_size(self) -> bool:
        """True where the method decides how many rows it takes (`full`); k is only recorded."""

    @property
    def requires(self) -> frozenset[str]:
        """Names of the artifacts it reads from `Pool.features`."""

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Choose `k` distinct rows. The same pool, k and generator state give the same rows."""


@dataclass(frozen=True)
class Ranking:
    """What a ranking method says of every row: take the highest `primary` first."""

    primary: np.ndarray
    """Score `[N]`; a non-finite score is taken only when nothing else is left."""
    secondary: np.ndarray | None = None
    """Decides among equal primary scores `[N]`, higher first; then the content key decides."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class BudgetedSelector(ABC):
    """What a config may name as a selector, and what it says of itself by default."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse a value that an argument's `Literal` does not list.

        Of subclasses that are dataclasses. Raises `ConfigError` naming the key.
        """
        try:
            hints = get_type_hints(type(self))
        except NameError:  # an annotation that only type checkers can resolve
            return
        for key, hint in hints.items():
            choices, value = get_args(hint), getattr(self, key, None)
            if get_origin(hint) is Literal and value not in choices:
                listed = ", ".join(map(str, choices))
                raise ConfigError(f"selector.{key}={value!r}: choose one of {listed}")

    @property
    def requires(self) -> frozenset[str]:
        """Nothing, unless the subclass says otherwise (a class attribute will do)."""
        return frozenset()

    @property
    def fixed_size(self) -> bool:
        """False: the budget decides."""
        return False

    @property
    def uses_device(self) -> bool:
        """Whether it has use for `Pool.device`: it clusters, or searches neighbours exactly."""
        return False

    @abstractmethod
    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Choose `k` distinct rows, as `Selector` says."""


class RankingSelector(BudgetedSelector):
    """A method that scores every row and takes the k best. Subclasses give `scores`."""

    @abstractmethod
    def scores(self, pool: Pool, rng: np.random.Generator) -> Ranking:
        """Return the score of every row, in pool order."""

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Take the `k` rows with the highest scores; ties by `top_k`'s rule."""
        return ranked_selection(pool, self.scores(pool, rng), k)


def ranked_selection(pool: Pool, ranking: Ranking, k: int) -> Selection:
    """Turn a ranking into a selection of `k` rows, with tie statistics and counts."""
    positions, ties = top_k(ranking.primary, ranking.secondary, pool.keys, k)
    primary = np.asarray(ranking.primary, dtype=np.float64)
    finite = np.isfinite(primary)
    notes = dict(ranking.notes)
    if not finite.all():
        notes["rows_without_score"] = int((~finite).sum())
        notes["rows_without_score_taken"] = int((~finite[positions]).sum())
    scores = np.where(finite, primary, np.nan)
    return Selection(positions, scores, dict(ranking.columns), ties, notes)


def budget_to_k(budget: float | int | str, n: int) -> int:
    """Return floor(budget * n) in exact arithmetic, at least 1: 0.29 of 100 rows is 29.

    `budget` is read as the decimal that a person wrote (`Fraction(str(budget))`), so the binary
    rounding of 0.29 takes no part. Raises ConfigError unless 0 < budget <= 1, DataError if n < 1.
    """
    try:
        share = Fraction(str(budget))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"budget={budget!r} is not a number; give a share such as 0.2") from None
    if not 0 < share <= 1:
        raise ConfigError(
            f"budget={budget} is outside (0, 1]: it is the share of the pool to keep, "
            "0.2 for a fifth, 1 for everything"
        )
    if n < 1:
        raise DataError("the pool has no rows, so nothing can be selected; check data.json")
    return max(1, int(share * n))


def check_k(k: int, n: int) -> None:
    """Raise ConfigError unless `k` distinct rows can be taken from `n`."""
    if not 1 <= k <= n:
        raise ConfigError(f"cannot take {k} distinct rows from a pool of {n}")


def canonical_order(keys: np.ndarray) -> np.ndarray:
    """Positions sorted by content key, then by position: int64 `[N]`.

    Methods that draw at random or sum floats walk the pool in this order, so that a shuffled pool
    file gives the same set of rows.
    """
    return np.argsort(keys, kind="stable").astype(np.int64)


def top_k(
    primary: np.ndarray, secondary: np.ndarray | None, keys: np.ndarray, k: int
) -> tuple[np.ndarray, TieStatistics]:
    """Positions (int64, ascending) of the `k` best rows, and how ties were decided.

    Order: `primary` descending, `secondary` descending (a non-finite one comes last), content key
    ascending, position ascending. Rows whose primary is not finite come after all others; the
    threshold is NaN when they were needed. O(N) time plus a sort of the rows tied at the cut.
    """
    values = np.asarray(primary, dtype=np.float64)
    check_k(k, len(values))
    finite = np.isfinite(values)
    n_finite = int(finite.sum())
    if k > n_finite:
        threshold = float("nan")
        above, tied = np.flatnonzero(finite), np.flatnonzero(~finite)
    else:
        threshold = float(np.partition(values[finite], n_finite - k)[n_finite - k])
        above = np.flatnonzero(finite & (values > threshold))
        tied = np.flatnonzero(finite & (values == threshold))
    taken = _best_of_tied(tied, secondary, keys, k - len(above))
    positions = np.sort(np.concatenate([above, taken])).astype(np.int64)
    return positions, TieStatistics(threshold, len(above), len(tied), len(taken))


def _best_of_tied(
    tied: np.ndarray, secondary: np.ndarray | None, keys: np.ndarray, m: int
) -> np.ndarray:
    """The `m` rows of `tied` with the highest secondary score, then the lowest key."""
    if m == len(tied):
        return tied
    above = tied[:0]
    if secondary is not None and m > 0:
        values = np.asarray(secondary, dtype=np.float64)[tied]
        values = np.where(np.isfinite(values), values, -np.inf)
        cut = np.partition(values, len(values) - m)[len(values) - m]
        above, tied = tied[values > cut], tied[values == cut]
    return np.concatenate([above, tied[canonical_order(keys[tied])[: m - len(above)]]])


def preference_order(
    primary: np.ndarray, secondary: np.ndarray | None, keys: np.ndarray, k: int
) -> np.ndarray:
    """The `k` best positions by the rule of `top_k`, best first: int64 `[k]`. O(N + k log k)."""
    best, _ = top_k(primary, secondary, keys, k)
    best = best[canonical_order(keys[best])]
    columns = [np.asarray(c, dtype=np.float64)[best] for c in (secondary, primary) if c is not None]
    return best[np.lexsort([-np.where(np.isfinite(c), c, -np.inf) for c in columns])]


def keep_band(values: np.ndarray, keep: Keep) -> np.ndarray:
    """Turn a statistic into a score to be taken from the top: float64 `[N]`.

    `high`: the value; `low`: its negative; `middle`: minus the distance of its percentile rank to
    1/2, so that the k best are the central band of the distribution. Equal values have equal
    (average) ranks. Non-finite values stay NaN and count in no rank.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    if keep == "middle":
        out = np.full(len(values), np.nan)
        if finite.any():
            percentile = (average_ranks(values[finite]) - 0.5) / finite.sum()
            out[finite] = -np.abs(percentile - 0.5)
        return out
    if keep not in ("high", "low"):
        raise ConfigError(f"keep={keep!r}: choose high, low or middle")
    return np.where(finite, values if keep == "high" else -values, np.nan)


def feature(pool: Pool, name: str) -> Any:
    """Return `pool.features[name]`, or say which artifact is missing."""
    try:
        return pool.features[name]
    except KeyError:
        have = ", ".join(sorted(pool.features)) or "none"
        raise DataError(
            f"the feature {name!r} was not given to the selector (features given: {have}); "
            "the pipeline computes what `requires` names"
        ) from None
