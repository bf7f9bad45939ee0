"""Sparse Johnson-Lindenstrauss (count-sketch): every coordinate goes to one bucket with a sign.

The row is cut into blocks of `dim` coordinates. Within a block the buckets are a random
permutation, so every bucket takes exactly one coordinate of each block:

    (P g)[pi_b(j)] = sum over blocks b of s_b[j] g_b[j]

Two coordinates of different blocks collide with probability 1/dim, as in an ordinary count-sketch
(Charikar et al. 2002; Kane and Nelson 2014 with s = 1); two of one block never do, so the variance
is no larger. Signs are independent, hence E<Px, Py> = <x, y>. What the permutation buys: gathering
instead of scattering, which is fast on a CPU and free of atomics on a GPU, so that every run gives
the same bits.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import random_permutation, random_signs
from icons_repro.gradients.projections.blocks import BlockProjection, first_and_last

CPU_RUN = 2**14
"""Coordinates gathered at once on a CPU: a few rows of it stay in the cache."""
GPU_RUN = 2**22
"""Coordinates gathered at once on a GPU: enough to hide the launch of a kernel."""


class CountSketch(BlockProjection):
    """Count-sketch with blockwise permutations; O(D) work a row."""

    kind: ClassVar[str] = "count_sketch"

    def __init__(
        self, layout: ParameterLayout, dim: int, seed: int = 0, cache_bytes: int = 4 * 2**30
    ) -> None:
        """Prepare to draw; `cache_bytes` bounds the indices and signs kept between batches."""
        super().__init__(layout, dim, seed)
        self.block_size = dim
        self._room = cache_bytes // (8 * dim)
        self._cache: dict[tuple[int, int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    @override
    def add_blocks(self, out: torch.Tensor, first: int, values: torch.Tensor) -> None:
        run = max(1, (CPU_RUN if out.device.type == "cpu" else GPU_RUN) // self.dim)
        count = values.shape[1] // self.dim
        for start in range(0, count, run):
            n = min(run, count - start)
            index, signs = self._drawn(first + start, n, out.device)
            part = values[:, start * self.dim : (start + n) * self.dim]
            gathered = part.index_select(1, index)
            if n == 1:
                out.addcmul_(gathered, signs.to(out.dtype))
            else:
                out += gathered.mul_(signs.to(out.dtype)).view(len(out), n, self.dim).sum(dim=1)

    @override
    def probe(self) -> bytes:
        return first_and_last(self._draw, self.n_blocks)

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which coordinate of the block each bucket takes, and with which sign."""
        order = random_permutation(self.seed, (block, 0), self.dim)
        return order, random_signs(self.seed, (block, 1), self.dim)

    def _drawn(
        self, first: int, count: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gather indices int32 and signs float32, `[count * dim]` each."""
        key = (first, count, device)
        if key in self._cache:
            return self._cache[key]
        drawn = [self._draw(first + i) for i in range(count)]
        index = np.concatenate([order + i * self.dim for i, (order, _) in enumerate(drawn)])
        signs = np.concatenate([s for _, s in drawn])
        pair = (
            torch.from_numpy(index).to(device),
            torch.from_numpy(signs).to(device, torch.float32),
        )
        if sum(n for _, n, _ in self._cache) + count <= self._room:
            self._cache[key] = pair
        return pair
