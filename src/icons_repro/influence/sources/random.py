"""Random: the control that every rule can be held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from icons_repro.core.types import Record
from icons_repro.influence.sources.base import OwnSource


@dataclass(frozen=True)
class RandomRows(OwnSource):
    """cos of random vectors, each drawn by its row's content: what a rule does with no signal.

    Formula: r uniform in (-1, 1)^d, from Philox keyed by content key and seed. Rows of the same
    content have the same vector, and no order of the file matters. Source: ours. Cost: none.
    """

    name: ClassVar[str] = "random"

    seed: int = 0
    """Not the run's seed, which a rule that ranks does not use."""
    width: int = 64

    def embed(self, records: Iterator[Record], images: Path) -> np.ndarray:
        """Draw a vector for each record."""
        drawn = [self._draw(record.key) for record in records]
        return np.array(drawn, dtype=np.float32).reshape(-1, self.width)

    def _draw(self, key: str) -> np.ndarray:
        """Turn raw Philox words into a vector of numbers in (-1, 1), centred.

        Raw words are stable across NumPy's versions (NEP 19); uniform numbers serve as well as
        normal ones.
        """
        words = np.random.Philox(key=int(key, 16) ^ self.seed).random_raw(self.width)
        return (words >> np.uint64(11)) * 2.0**-52 - 1.0
