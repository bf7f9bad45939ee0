"""How one row of a store is kept on disk: float32, float16, bfloat16, int8 or 1 bit a coordinate.

Rows arrive normalised in float32 and are cast last. A rounded row q stands for a direction, so what
is read back is q / |q|: the number 1 / |q| of each row, its scale, is kept beside the rows. float32
rows are kept as they are, with scale 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from icons_repro.core.errors import ConfigError

FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES = (*FLOATS, "int8", "bit1")


@dataclass(frozen=True)
class RowCodec:
    """Encodes and decodes rows of one length and one dtype."""

    dtype: str
    dim: int

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"gradients.dtype={self.dtype!r}: choose one of {', '.join(DTYPES)}")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        if self.dtype == "bit1":
            return -(-self.dim // 8)
        return self.dim * (1 if self.dtype == "int8" else FLOATS[self.dtype].itemsize)

    def encode(self, rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return bytes `[n, row_bytes]` and scales float32 `[n]` of float32 rows `[n, dim]`."""
        rows = rows.detach().to("cpu", torch.float32).contiguous()
        if self.dtype == "bit1":
            packed = np.packbits(rows.numpy() >= 0, axis=1, bitorder="little")
            return packed, np.full(len(rows), self.dim**-0.5, dtype=np.float32)
        if self.dtype == "int8":
            largest = rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)
            stored = (rows * (127 / largest)).round().to(torch.int8)
        else:
            stored = rows.to(FLOATS[self.dtype])
        data = stored.view(torch.uint8).numpy()
        if self.dtype == "float32":
            return data, np.ones(len(rows), dtype=np.float32)
        lengths = torch.linalg.vector_norm(stored.float(), dim=1)
        return data, torch.where(lengths > 0, 1 / lengths, 1.0).numpy()

    def decode(self, data: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return float32 `[n, dim]`, not yet times the scales, of uint8 `[n, row_bytes]`.

        `out`, float32 `[n, dim]`, is used where there is something to convert into it.
        """
        if self.dtype == "bit1":
            signs = torch.nn.functional.embedding(data.int(), _BYTE_SIGNS)
            return signs.view(len(data), -1)[:, : self.dim]
        stored = data.view(FLOATS.get(self.dtype, torch.int8))
        if out is None or stored.dtype == torch.float32:
            return stored.float()
        return out.copy_(stored)


_BYTE_SIGNS = torch.from_numpy(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(
        np.float32
    )
    * 2
    - 1
)
"""The eight signs that each byte stands for, float32 `[256, 8]`."""
