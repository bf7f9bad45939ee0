"""Where each parameter's gradient lies in a row: the canonical order, written down once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ParameterLayout:
    """The order and shapes of the parameters whose gradients, concatenated, make one row."""

    names: tuple[str, ...]
    """Parameter names, sorted: the canonical order."""
    shapes: tuple[tuple[int, ...], ...]
    """Shape of each parameter, in the same order."""

    @classmethod
    def of(cls, parameters: Sequence[tuple[str, torch.Tensor]]) -> ParameterLayout:
        """Build from `(name, parameter)` pairs.

        Raises:
            ValueError: there are no parameters, or the names are not sorted and distinct.
        """
        names = tuple(name for name, _ in parameters)
        if not names:
            raise ValueError("no parameters to take gradients of")
        if list(names) != sorted(set(names)):
            raise ValueError("parameters must come sorted by name, each once")
        return cls(names, tuple(tuple(p.shape) for _, p in parameters))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of coordinates of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First coordinate of each parameter in the concatenated row."""
        starts, total = [], 0
        for size in self.sizes:
            starts.append(total)
            total += size
        return tuple(starts)

    @property
    def dim(self) -> int:
        """D, the length of an unprojected row."""
        return sum(self.sizes)

    def fingerprint(self) -> str:
        """16 hexadecimal characters that change with any name, shape or the order."""
        text = json.dumps([[n, list(s)] for n, s in zip(self.names, self.shapes, strict=True)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
