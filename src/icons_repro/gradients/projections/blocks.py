"""Projections that cut the concatenated row into blocks of equal length and sum over blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from typing_extensions import override

from icons_repro.gradients.projections.base import Projection


class BlockProjection(Projection):
    """P g = sum over blocks b of P_b g_b; a subclass says what P_b does to one run of blocks."""

    block_size: int
    """Coordinates of a block; the last one is padded with zeros."""

    @property
    def n_blocks(self) -> int:
        """Number of blocks that the row is cut into."""
        return -(-self.layout.dim // self.block_size)

    @abstractmethod
    def add_blocks(self, out: torch.Tensor, first: int, values: torch.Tensor) -> None:
        """Add the projection of consecutive whole blocks to `out`.

        Args:
            out: `[B, dim]`, changed in place.
            first: index of the first block.
            values: `[B, n * block_size]`, coordinates `first * block_size` and on.
        """

    @override
    def begin(
        self, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> BlockAccumulator:
        return BlockAccumulator(self, rows, torch.device(device), dtype)


class BlockAccumulator:
    """Feeds whole blocks to the projection; keeps only the blocks that are not complete yet."""

    def __init__(
        self, projection: BlockProjection, rows: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._projection = projection
        self._out = torch.zeros(rows, projection.dim, device=device, dtype=dtype)
        self._open: dict[int, torch.Tensor] = {}
        self._filled: dict[int, int] = {}
        self._offsets = projection.layout.offsets

    def add(self, parameter: int, gradients: torch.Tensor) -> None:
        """See `Accumulator.add`: whole blocks go through at once, ragged ends are kept."""
        size = self._projection.block_size
        values = gradients.flatten(1).to(self._out.dtype)
        start = self._offsets[parameter]
        stop = start + values.shape[1]
        whole, end = -(-start // size), stop // size
        if whole > end:
            self._keep(start // size, start % size, values)
            return
        if start % size:
            self._keep(start // size, start % size, values[:, : whole * size - start])
        if end > whole:
            inner = values[:, whole * size - start : end * size - start]
            self._projection.add_blocks(self._out, whole, inner)
        if stop % size:
            self._keep(end, 0, values[:, end * size - start :])

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Accumulator.finish`; the norm is that of the projected row."""
        for block in sorted(self._open):
            self._projection.add_blocks(self._out, block, self._open[block])
        self._open.clear()
        return self._out, torch.linalg.vector_norm(self._out, dim=1)

    def _keep(self, block: int, at: int, values: torch.Tensor) -> None:
        size = self._projection.block_size
        if block not in self._open:
            self._open[block] = self._out.new_zeros(len(values), size)
            self._filled[block] = 0
        self._open[block][:, at : at + values.shape[1]] = values
        self._filled[block] += values.shape[1]
        if self._filled[block] == size:
            self._projection.add_blocks(self._out, block, self._open.pop(block))


def first_and_last(draw: Callable[[int], Sequence[np.ndarray]], n_blocks: int) -> bytes:
    """Return what is drawn for the first block and the last, as bytes."""
    return b"".join(part.tobytes() for b in sorted({0, n_blocks - 1}) for part in draw(b))
