"""Dense random signs, the paper's projection, drawn a few coordinates at a time.

Signs are bits of Philox words that depend on (seed, block) alone. A CPU takes the words from NumPy,
whose C loop is the fastest there; a CUDA device draws and multiplies in one kernel
(`fused_signs.py`); any other device makes the same words by torch's operations (`philox.py`). All
three are the same matrix, bit by bit.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import random_words
from icons_repro.gradients.projections.blocks import BlockProjection
from icons_repro.gradients.projections.philox import philox_key, philox_words

BLOCK = 256
"""Coordinates of a block: 256 x 5120 signs are 160 KB as bits and 5 MB as floats."""
DEVICE_RUN = 32
"""Blocks drawn at once by torch's operations on a device: 168 MB of signs at d = 5120."""


class Rademacher(BlockProjection):
    """P = S / sqrt(dim) with independent signs S; O(D dim) work a row (TRAK).

    The released code leaves out the 1/sqrt(dim), which no cosine can see.
    """

    kind: ClassVar[str] = "rademacher"

    def __init__(self, layout: ParameterLayout, dim: int, seed: int = 0) -> None:
        super().__init__(layout, dim, seed)
        self.block_size = BLOCK
        self._tables: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}
        self._keys: dict[torch.device, torch.Tensor] = {}

    @override
    def add_blocks(self, out: torch.Tensor, first: int, values: torch.Tensor) -> None:
        count = values.shape[1] // BLOCK
        if self._fused(out):
            from icons_repro.gradients.projections.fused_signs import add_signed

            keys = self._drawn_keys(out.device)[first : first + count]
            add_signed(out, values, keys, BLOCK, self.dim**-0.5)
            return
        run = 1 if out.device.type == "cpu" else DEVICE_RUN
        for i in range(0, count, run):
            n = min(run, count - i)
            part = values[:, i * BLOCK : (i + n) * BLOCK]
            out.addmm_(part, self.signs(first + i, n, out), alpha=self.dim**-0.5)

    @override
    def probe(self) -> bytes:
        return b"".join(self._bits(b).tobytes() for b in sorted({0, self.n_blocks - 1}))

    def signs(self, first: int, count: int, like: torch.Tensor) -> torch.Tensor:
        """Return the signs of consecutive blocks as numbers `[count * BLOCK, dim]` like `like`."""
        if like.device.type == "cpu":
            bits = torch.from_numpy(np.concatenate([self._bits(first + i) for i in range(count)]))
        else:
            bits = self.device_bits(first, count, like.device)
        unpacked = functional.embedding(bits.int(), self._table(like))
        return unpacked.view(count * BLOCK, -1)[:, : self.dim]

    def device_bits(self, first: int, count: int, device: torch.device) -> torch.Tensor:
        """Return the blocks' signs as bits, uint8 `[count * BLOCK, ceil(dim / 64) * 8]`."""
        words = -(-self.dim // 64)
        keys = self._drawn_keys(device)[first : first + count]
        drawn = philox_words(keys, -(-BLOCK * words // 4))
        return drawn.view(torch.uint8).view(count * BLOCK, words * 8)

    def _fused(self, out: torch.Tensor) -> bool:
        """Return whether the fused kernel can do it."""
        if not out.is_cuda or out.dtype != torch.float32 or find_spec("triton") is None:
            return False
        from icons_repro.gradients.projections.fused_signs import fits

        return fits(self.dim, BLOCK)

    def _drawn_keys(self, device: torch.device) -> torch.Tensor:
        """Return the keys of all blocks, int64 `[n_blocks, 2]`: 20 MB at D = 320 million."""
        if device not in self._keys:
            keys = np.stack([philox_key(self.seed, block) for block in range(self.n_blocks)])
            self._keys[device] = torch.from_numpy(keys.view(np.int64)).to(device)
        return self._keys[device]

    def _bits(self, block: int) -> np.ndarray:
        """Return the block's signs as bits, uint8 `[BLOCK, ceil(dim / 64) * 8]`, by NumPy."""
        words = -(-self.dim // 64)
        drawn = random_words(self.seed, (block,), BLOCK * words)
        return drawn.astype("<u8", copy=False).view(np.uint8).reshape(BLOCK, words * 8)

    def _table(self, like: torch.Tensor) -> torch.Tensor:
        key = (like.device, like.dtype)
        if key not in self._tables:
            bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], 1, bitorder="little")
            self._tables[key] = torch.from_numpy(bits.astype(np.float32) * 2 - 1).to(like)
        return self._tables[key]
