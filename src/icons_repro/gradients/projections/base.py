"""One interface for all random projections g -> P g of a row of gradients.

Every projection is drawn from numbers that depend on (seed, block) alone and are made on the CPU by
a counter-based generator (Philox), so every machine and every shard gets the same matrix. None is
ever materialised whole. Each is scaled so that E<Px, Py> = <x, y>.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from icons_repro.gradients.layout import ParameterLayout


class Accumulator(Protocol):
    """Takes one batch's gradients, parameter by parameter in any order; gives its rows."""

    def add(self, parameter: int, gradients: torch.Tensor) -> None:
        """Add parameter `parameter`'s gradients `[B, *shape]`; each parameter once."""

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows `[B, dim]`, not normalised, and the norm to divide each by, `[B]`."""


class Projection(ABC):
    """A linear map from rows of length `layout.dim` to rows of length `dim`."""

    kind: ClassVar[str]

    def __init__(self, layout: ParameterLayout, dim: int, seed: int = 0) -> None:
        self.layout = layout
        self.dim = dim
        self.seed = seed

    @abstractmethod
    def begin(
        self, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Accumulator:
        """Start a batch of `rows` samples, accumulated in `dtype`."""

    @abstractmethod
    def probe(self) -> bytes:
        """Return drawn numbers (as integers) that tell this map from another."""

    def identity(self) -> dict[str, Any]:
        """Return what tells two projections apart; stores with different ones never meet."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "dim": self.dim,
            "source_dim": self.layout.dim,
            "parameters": self.layout.fingerprint(),
            "probe": hashlib.blake2b(self.probe(), digest_size=8).hexdigest(),
        }

    def project(self, gradients: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Project one batch.

        Args:
            gradients: one `[B, *shape]` per parameter in canonical order, or all of them
                concatenated, `[B, D]`.

        Returns:
            `[B, dim]`, float32 (float64 for float64 input), not normalised.
        """
        parts = self._split(gradients)
        first = parts[0]
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        accumulator = self.begin(len(first), first.device, dtype)
        for index, part in enumerate(parts):
            accumulator.add(index, part)
        return accumulator.finish()[0]

    def _split(self, gradients: Sequence[torch.Tensor] | torch.Tensor) -> Sequence[torch.Tensor]:
        if not isinstance(gradients, torch.Tensor):
            return gradients
        if gradients.shape[1] != self.layout.dim:
            raise ValueError(f"rows of {gradients.shape[1]}; the layout has {self.layout.dim}")
        return gradients.split(self.layout.sizes, dim=1)


def random_words(seed: int, stream: Iterable[int], count: int) -> np.ndarray:
    """Return `count` random uint64, a function of (seed, stream) alone.

    `random_raw` of a bit generator is kept stable across NumPy versions; the distributions of
    `numpy.random.Generator` are not (NEP 19), so nothing here uses them.
    """
    sequence = np.random.SeedSequence([seed, *stream])
    return np.random.Philox(sequence).random_raw(count)


def random_signs(seed: int, stream: Iterable[int], count: int) -> np.ndarray:
    """Return `count` random signs, int8, -1 or 1."""
    words = random_words(seed, stream, -(-count // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:count]
    return (bits.astype(np.int8) << 1) - 1


def random_permutation(seed: int, stream: Iterable[int], count: int) -> np.ndarray:
    """Return a random permutation of range(count), int32."""
    return np.argsort(random_words(seed, stream, count), kind="stable").astype(np.int32)
