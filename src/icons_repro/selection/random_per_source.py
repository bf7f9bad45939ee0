"""Random selection that keeps every source's share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.types import Pool
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.sets import Choice, SetSelector, quotas


@dataclass(frozen=True)
class RandomPerSource(SetSelector):
    """Stratified draw: a quota for each source, uniform inside it.

    Formula: quota proportional to the source's rows ("proportional") or the same for all
    ("equal"; a source smaller than its quota is taken whole); fractions by largest remainder.
    Source: ours; the paper has the plain draw alone, whose noise in the mixture this removes.
    Complexity: O(N log N). Text-only rows are their own source.
    """

    name: ClassVar[str] = "random_per_source"

    allocation: Literal["proportional", "equal"] = "proportional"

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """The quota's highest uniform numbers in each source."""
        draws = uniform_by_key(pool, rng)
        names, group, sizes = np.unique(pool.sources, return_inverse=True, return_counts=True)
        weights = sizes if self.allocation == "proportional" else np.ones(len(sizes))
        take = quotas(weights, sizes, k)
        chosen = highest_per_group(draws, group, take)
        shares = {str(name): int(n) for name, n in zip(names, take, strict=True)}
        return Choice(chosen, draws, notes={"quota_by_source": shares})


def highest_per_group(scores: np.ndarray, group: np.ndarray, take: np.ndarray) -> np.ndarray:
    """Positions of the `take[g]` highest scores of each group g (scores distinct). O(N log N)."""
    order = np.lexsort((-scores, group))
    sizes = np.bincount(group, minlength=len(take))
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.arange(len(scores)) - first
    return order[rank < np.repeat(take, sizes)]
