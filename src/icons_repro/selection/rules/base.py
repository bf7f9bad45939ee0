"""What a rule reads and gives, and how `selector.rule` finds it.

The paper's rules by task are arithmetic on `[N, T]` (`influence/consensus.py`). A rule here is a
class in a file of its own, shipped or the user's: `selector.rule=module.Class` names any.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.registry import Kind
from icons_repro.selection.base import Ranking

if TYPE_CHECKING:  # it loads torch, which a plan does without
    from icons_repro.influence.rows.blocks import ByRow


@dataclass(frozen=True)
class Seen:
    """Influence, as a rule reads it; rows are the pool's usable ones, in its order."""

    values: np.ndarray
    """By task, float64 `[N, T]`; an excluded row is all NaN."""
    tasks: tuple[str, ...]
    keys: np.ndarray
    """Content keys `[N]`: what is equal is decided by them, never by the order."""
    mean_rank: np.ndarray
    """Mean percentile rank over the tasks `[N]`, NaN if excluded: the usual second key."""
    approvals: np.ndarray | None
    """Who votes for what, bool `[N, T]`: the vote's, by its percentile and comparison; there where
    the rule `needs_votes`."""
    rows: ByRow | None
    """By validation row, sub-tasks merged; there where the rule `needs_rows`."""

    @property
    def by_row(self) -> ByRow:
        """`rows`, of a rule that needs them. Raises `DataError` where another pool made them."""
        assert self.rows is not None
        if self.rows.shape[0] != len(self.keys):
            raise DataError(
                f"influence by validation row has {self.rows.shape[0]} rows but the pool has "
                f"{len(self.keys)}; it was made from another pool: delete its folder and run again"
            )
        return self.rows


class Rule(ABC):
    """One way from influence to rows. Its fields are the keys of `selector.options`."""

    name: ClassVar[str]
    needs_rows: ClassVar[bool] = False
    """Reads `Seen.by_row`, which not every source has."""
    needs_votes: ClassVar[bool] = False
    """Reads `Seen.approvals`; their number is then a column of the scores."""

    @abstractmethod
    def choose(self, seen: Seen, k: int) -> Ranking | np.ndarray:
        """Score every row, highest taken first; or give at most k positions, first taken first.

        Excluded rows have no score, and are nobody's first choice: what is missing to k is filled
        with the rows of the highest `mean_rank`, then with excluded ones, by key. Of positions,
        each row's score is minus its turn.
        """


RULES: Kind[Rule] = Kind(
    key="selector",
    base=Rule,  # type: ignore[type-abstract]
    package=__package__,
    noun="rule",
    advice="A rule is a class that extends Rule (selection/rules/base.py).",
)


def build_rule(cls: type[Rule], options: Mapping[str, Any]) -> Rule:
    """Make a rule with its options. Raises `ConfigError` naming a key that is not its."""
    return RULES.make(cls, options)


def to_cosines(values: np.ndarray, largest: float) -> np.ndarray:
    """Return influence scaled into [-1, 1]: cosines as they are, anything larger by `largest`."""
    return values / max(1.0, largest)
