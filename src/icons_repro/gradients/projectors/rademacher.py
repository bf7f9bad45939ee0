"""Dense random signs, the paper's projection, drawn a few coordinates at a time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projectors.base import random_words
from icons_repro.gradients.projectors.blocks import BlockProjector

BLOCK = 256
"""Coordinates of a block: 256 x 5120 signs are 160 KB as bits and 5 MB as floats."""


class Rademacher(BlockProjector):
    """P = S / sqrt(dim) with independent signs S; O(D dim) work a row (ICONS, 1.1; TRAK).

    The released code leaves out the 1/sqrt(dim), which no cosine can see.
    """

    kind: ClassVar[str] = "rademacher"

    def __init__(self, layout: ParameterLayout, dim: int, seed: int = 0) -> None:
        super().__init__(layout, dim, seed)
        self.block_size = BLOCK
        self._tables: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    @override
    def add_blocks(self, out: torch.Tensor, first: int, values: torch.Tensor) -> None:
        for i in range(values.shape[1] // BLOCK):
            part = values[:, i * BLOCK : (i + 1) * BLOCK]
            out.addmm_(part, self._signs(first + i, out), alpha=self.dim**-0.5)

    @override
    def probe(self) -> bytes:
        return b"".join(self._bits(b).tobytes() for b in sorted({0, self.n_blocks - 1}))

    def _bits(self, block: int) -> np.ndarray:
        """Return the block's signs as bits, uint8 `[BLOCK, ceil(dim / 64) * 8]`."""
        words = -(-self.dim // 64)
        drawn = random_words(self.seed, (block,), BLOCK * words)
        return drawn.astype("<u8", copy=False).view(np.uint8).reshape(BLOCK, words * 8)

    def _signs(self, block: int, like: torch.Tensor) -> torch.Tensor:
        """Return the block's signs as numbers `[BLOCK, dim]`: bits travel, the table unpacks."""
        bits = torch.from_numpy(self._bits(block)).to(like.device)
        unpacked = functional.embedding(bits.int(), self._table(like))
        return unpacked.view(BLOCK, -1)[:, : self.dim]

    def _table(self, like: torch.Tensor) -> torch.Tensor:
        key = (like.device, like.dtype)
        if key not in self._tables:
            bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], 1, bitorder="little")
            self._tables[key] = torch.from_numpy(bits.astype(np.float32) * 2 - 1).to(like)
        return self._tables[key]
