"""Feature rows minus their mean, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icons_repro.features.rows import FeatureRows, ordered_map


@dataclass(frozen=True)
class Centre:
    """The mean of some rows, and a scale that keeps squares of what is left in float32's range."""

    mean: np.ndarray
    """float64 `[d]`."""
    scale: float
    """Largest distance of a number to its mean, or 1 where that is 0."""

    def of(self, rows: FeatureRows, places: slice) -> np.ndarray:
        """Rows minus the mean, over the scale: float32 `[b, d]`, numbers in [-1, 1]."""
        return ((rows.gather(places) - self.mean) / self.scale).astype(np.float32)


def centre_of(rows: FeatureRows) -> Centre:
    """Read the rows twice: for the mean, and for the scale."""
    sums = ordered_map(
        lambda places: rows.gather(places).sum(axis=0, dtype=np.float64), rows.slices()
    )
    mean = sum(sums, np.zeros(rows.dim)) / max(len(rows), 1)
    furthest = ordered_map(
        lambda places: float(np.abs(rows.gather(places) - mean).max()), rows.slices()
    )
    return Centre(mean, max(furthest, default=0.0) or 1.0)
