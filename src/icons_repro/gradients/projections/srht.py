"""Subsampled randomised Hadamard transform, block by block (Ailon and Chazelle 2009).

For a block of n = 2^k coordinates: flip signs, apply the Hadamard transform H, keep `dim` of the
n results. P_b = R H D / sqrt(dim); blocks are summed, so a row streams through.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import random_permutation, random_signs
from icons_repro.gradients.projections.blocks import BlockProjection, first_and_last


class Srht(BlockProjection):
    """Blockwise SRHT; O(D log dim) work a row."""

    kind: ClassVar[str] = "srht"

    def __init__(self, layout: ParameterLayout, dim: int, seed: int = 0) -> None:
        super().__init__(layout, dim, seed)
        self.block_size = 2 ** max(1, math.ceil(math.log2(dim)))
        left = 2 ** (int(math.log2(self.block_size)) // 2)
        self._factors = hadamard(left), hadamard(self.block_size // left)
        self._drawn: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    @override
    def add_blocks(self, out: torch.Tensor, first: int, values: torch.Tensor) -> None:
        left, right = (factor.to(out) for factor in self._factors)
        size = self.block_size
        for i in range(values.shape[1] // size):
            signs, kept = self._numbers(first + i, out.device)
            block = values[:, i * size : (i + 1) * size] * signs.to(out.dtype)
            block = left @ block.view(-1, len(left), len(right)) @ right
            out.add_(block.reshape(len(out), size).index_select(1, kept), alpha=self.dim**-0.5)

    @override
    def probe(self) -> bytes:
        return first_and_last(self._draw, self.n_blocks)

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        signs = random_signs(self.seed, (block, 0), self.block_size)
        return signs, random_permutation(self.seed, (block, 1), self.block_size)[: self.dim]

    def _numbers(self, block: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        key = (block, device)
        if key not in self._drawn:
            signs, kept = (torch.from_numpy(part.copy()).to(device) for part in self._draw(block))
            self._drawn[key] = signs, kept
        return self._drawn[key]


def hadamard(size: int) -> torch.Tensor:
    """Return the Hadamard matrix of a power of two, float32 of -1 and 1 `[size, size]`."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix
