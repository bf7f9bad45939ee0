"""A mixture of sources: how many rows of each, then rows at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.core.types import Pool
from icons_repro.influence.ranks import by_task
from icons_repro.selection.base import top_k
from icons_repro.selection.icons import task_influence
from icons_repro.selection.random import uniform_by_key
from icons_repro.selection.random_per_source import highest_per_group
from icons_repro.selection.sets import Choice, SetSelector, quotas


@dataclass(frozen=True)
class Mixture(SetSelector):
    """Quotas by source, a uniform draw inside each.

    Formula: quota_s = k w_s / sum w, where w_s = 1 (uniform), n_s^(1/T) (temperature: T = 1 keeps
    the pool's shares, T -> infinity evens them out) or the rows of s among each target task's k
    most influential, averaged over tasks (targets). A source smaller than its quota is taken whole
    and the others share the rest. Direction: none inside a source. Source: ours; temperature as in
    multilingual training (Conneau et al. 2020, section 3.1, alpha = 1/T); that mixing rather than
    filtering decides is the claim of DataComp-VLM. `targets` says how much of a targeted method's
    gain its mixture alone explains. Complexity: O(N log N), with targets O(N T). Text-only rows
    are a source like any other.
    """

    name: ClassVar[str] = "mixture"

    weights: Literal["uniform", "temperature", "targets"] = "targets"
    temperature: float = 2.0
    tasks: Sequence[str] | None = None
    """Target tasks that take part; None is all of them."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"selector.temperature={self.temperature}: give a number above 0.")

    @property
    def requires(self) -> frozenset[str]:
        """The influence matrix if the targets decide the mixture, else nothing."""
        return frozenset({"influence"} if self.weights == "targets" else ())

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Weights, quotas, and the highest uniform numbers in each source."""
        draws = uniform_by_key(pool, rng)
        names, group, sizes = np.unique(pool.sources, return_inverse=True, return_counts=True)
        weights = self._weights(pool, group, sizes, k)
        take = quotas(weights, sizes, k)
        notes = {
            "quota_by_source": dict(zip(names.tolist(), take.tolist(), strict=True)),
            "weight_by_source": dict(zip(names.tolist(), weights.tolist(), strict=True)),
        }
        return Choice(highest_per_group(draws, group, take), draws, notes=notes)

    def _weights(self, pool: Pool, group: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
        if self.weights == "uniform":
            return np.ones(len(sizes))
        if self.weights == "temperature":
            return (sizes / sizes.max()) ** (1 / self.temperature)
        values, _ = task_influence(pool, self.tasks, "max")
        tops = by_task(lambda column: _finite_top(column, pool.keys, k), values)
        return np.mean([np.bincount(group[top], minlength=len(sizes)) for top in tops], axis=0)


def _finite_top(column: np.ndarray, keys: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest finite values."""
    top, _ = top_k(column, None, keys, k)
    return top[np.isfinite(column[top])]
