"""What gives rows to centroids, whoever computes it: faiss on the CPU, torch on another device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Found = tuple[np.ndarray, np.ndarray, Any]
"""Fit float32 `[b]`, centroid int64 `[b]`, and the block's sums for `Totals.add` (or None)."""


class Totals(Protocol):
    """Sums of rows by cluster, float64."""

    def add(self, part: Any) -> None:
        """Add one block's sums."""

    def read(self, clusters: slice) -> np.ndarray:
        """The sums of these clusters: float64 `[c, d]`."""


class Assigner(Protocol):
    """Gives rows to a fixed set of centroids."""

    def search(self, x: np.ndarray, sums: bool) -> Found:
        """The nearest centroid of each row of `x` `[b, d]`; may run in several threads."""

    def totals(self) -> Totals:
        """Sums that are all zero."""
