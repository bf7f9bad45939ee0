"""Qwen2.5-VL: patches of an image at its own resolution, one after the other.

`pixel_values` is `[U, 1176]`, U the patches of all images, and `image_grid_thw` `[I, 3]` says how
they lie. The tower's merger makes one token of 2 x 2 patches; it is what leads to the language
model. Positions are three-dimensional and follow from `mm_token_type_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icons_repro.models.families.base import Family


@dataclass(frozen=True)
class Patched(Family):
    """A family that takes all patches in one row."""

    def inputs(self, made: Mapping[str, Any], images: int) -> dict[str, torch.Tensor]:
        """Return patches and grids."""
        return {name: made[name] for name in ("pixel_values", "image_grid_thw")}


QWEN2_5_VL = Patched(
    model_type="qwen2_5_vl",
    title="Qwen2.5-VL",
    vision=("visual",),
    projectors=("visual.merger",),
    token_types="mm_token_type_ids",
)
