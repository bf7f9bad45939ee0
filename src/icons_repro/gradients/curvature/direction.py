"""A gradient times a power of the inverse curvature, as a direction of extraction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from typing_extensions import override

from icons_repro.core.errors import DataError
from icons_repro.gradients.curvature.factors import rotate, rotate_back
from icons_repro.gradients.directions import Direction
from icons_repro.gradients.layout import ParameterLayout

FILE = "curvature.safetensors"


@dataclass(frozen=True)
class CurvedDirection(Direction):
    """U ((U^T G V) (values + damping mean(values))^power) V^T, weight by weight.

    power = -1 is the inverse: an influence function's (g')^T H^-1 g, of which one side is this.
    power = -0.5 on both sides is the same product, so that lengths are divided out in one space.
    The damping is kronfluence's: .1 of a weight's mean eigenvalue (factor/config.py, `prepare`).
    """

    factors: dict[str, torch.Tensor]
    names: tuple[str, ...]
    damping: float
    power: float

    @classmethod
    def load(
        cls, path: Path, layout: ParameterLayout, damping: float, power: float
    ) -> CurvedDirection:
        """Read `curvature.safetensors`.

        Raises:
            DataError: the factors of a parameter are missing, or of another shape.
        """
        factors = load_file(path)
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            values = factors.get(f"{name}.values")
            if values is None or values.numel() != torch.Size(shape).numel():
                raise DataError(
                    f"{path} has no curvature of {name} {list(shape)}: it is of other parameters. "
                    "Delete its folder, it is made again."
                )
        made = cls(factors, layout.names, damping, power)
        for name in layout.names:
            values = factors[f"{name}.values"]
            floor = torch.finfo(values.dtype).tiny
            damped = values + damping * values.mean()
            factors[f"{name}.scale"] = damped.clamp_min(floor).pow(power)
        return made

    @override
    def identity(self) -> dict[str, Any]:
        digest = hashlib.blake2b(digest_size=8)
        for name in self.names:
            digest.update(self.factors[f"{name}.values"].contiguous().numpy().tobytes())
        settings = {"damping": self.damping, "power": self.power}
        return {"kind": "curved", **settings, "curvature": digest.hexdigest()}

    @override
    def __call__(self, index: int, gradients: torch.Tensor) -> torch.Tensor:
        name = self.names[index]
        for part in ("left", "right", "scale"):  # moved to the device once
            key = f"{name}.{part}"
            self.factors[key] = self.factors[key].to(gradients)
        rotated = rotate(self.factors, name, gradients) * self.factors[f"{name}.scale"]
        return rotate_back(self.factors, name, rotated).reshape(gradients.shape)
