"""No projection: the row is the concatenated gradient itself."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import Projection


class Unprojected(Projection):
    """The identity map; rows are D long, so this is for small adapters and for checking."""

    kind: ClassVar[str] = "none"

    def __init__(self, layout: ParameterLayout) -> None:
        super().__init__(layout, layout.dim, 0)

    @override
    def begin(
        self, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> ConcatenatingAccumulator:
        out = torch.zeros(rows, self.dim, device=device, dtype=dtype)
        return ConcatenatingAccumulator(out, self.layout.offsets)

    @override
    def probe(self) -> bytes:
        return b""


class ConcatenatingAccumulator:
    """Writes each parameter's gradients into its columns."""

    def __init__(self, out: torch.Tensor, offsets: tuple[int, ...]) -> None:
        self._out = out
        self._offsets = offsets

    def add(self, parameter: int, gradients: torch.Tensor) -> None:
        """See `Accumulator.add`."""
        values = gradients.flatten(1)
        start = self._offsets[parameter]
        self._out[:, start : start + values.shape[1]] = values

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Accumulator.finish`."""
        return self._out, torch.linalg.vector_norm(self._out, dim=1)
