"""The whole pool: the reference that relative performance divides by."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from icons_repro.core.types import Pool, Selection
from icons_repro.selection.base import BudgetedSelector


class Full(BudgetedSelector):
    """Every row, whatever the budget; the k asked for is recorded in the notes.

    Formula: all N rows. Source: the Full rows of the paper's tables. Complexity: O(N). Text-only
    rows are rows like any other.
    """

    name: ClassVar[str] = "full"
    fixed_size: ClassVar[bool] = True

    def select(self, pool: Pool, k: int, rng: np.random.Generator) -> Selection:
        """Take all rows."""
        n = len(pool)
        return Selection(
            np.arange(n, dtype=np.int64), np.full(n, np.nan), notes={"rows_asked_for": k}
        )
