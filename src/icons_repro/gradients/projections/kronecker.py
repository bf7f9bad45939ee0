"""Two-sided projection of each LoRA factor's gradient, summed over the factors.

For a factor with gradient G `[out, in]`:  P G = L G R^T / sqrt(dim), with random signs
L `[k, out]` and R `[dim / k, in]`: the Kronecker product of two small sign matrices (the idea of
LoGra, Choe et al. 2024, which keeps one block a module; here the modules are summed).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import Projection, random_signs


class Kronecker(Projection):
    """Two-sided Kronecker projection; O(D sqrt(dim)) work a row."""

    kind: ClassVar[str] = "kronecker"

    def __init__(self, layout: ParameterLayout, dim: int, seed: int = 0) -> None:
        super().__init__(layout, dim, seed)
        self.left_dim = _divisor_near_root(dim)
        self._cache: dict[tuple[int, torch.device, torch.dtype], tuple[torch.Tensor, ...]] = {}

    @override
    def begin(
        self, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> KroneckerAccumulator:
        return KroneckerAccumulator(self, torch.zeros(rows, self.dim, device=device, dtype=dtype))

    @override
    def probe(self) -> bytes:
        parameters = sorted({0, len(self.layout.names) - 1})
        return b"".join(part.tobytes() for p in parameters for part in self._draw(p))

    def factors(self, parameter: int, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return L `[k, out]` and R `[dim / k, in]` of one parameter."""
        key = (parameter, like.device, like.dtype)
        if key not in self._cache:
            drawn = self._draw(parameter)
            self._cache[key] = tuple(torch.from_numpy(part).to(like) for part in drawn)
        return self._cache[key]

    def _draw(self, parameter: int) -> tuple[np.ndarray, np.ndarray]:
        shape = self.layout.shapes[parameter]
        rows = shape[0] if len(shape) > 1 else 1
        columns = self.layout.sizes[parameter] // rows
        k, rest = self.left_dim, self.dim // self.left_dim
        left = random_signs(self.seed, (parameter, 0), k * rows).reshape(k, rows)
        right = random_signs(self.seed, (parameter, 1), rest * columns).reshape(rest, columns)
        return left, right


class KroneckerAccumulator:
    """Adds each parameter's two-sided projection to the batch's rows."""

    def __init__(self, projection: Kronecker, out: torch.Tensor) -> None:
        self._projection = projection
        self._out = out

    def add(self, parameter: int, gradients: torch.Tensor) -> None:
        """See `Accumulator.add`."""
        left, right = self._projection.factors(parameter, self._out)
        matrix = gradients.to(self._out.dtype).reshape(len(gradients), left.shape[1], -1)
        small = torch.matmul(left, torch.matmul(matrix, right.T))
        self._out.add_(small.flatten(1), alpha=self._projection.dim**-0.5)

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Accumulator.finish`."""
        return self._out, torch.linalg.vector_norm(self._out, dim=1)


def _divisor_near_root(dim: int) -> int:
    """Return the largest divisor of `dim` that is at most its square root."""
    return next(k for k in range(math.isqrt(dim), 0, -1) if dim % k == 0)
