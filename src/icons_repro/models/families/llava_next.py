"""LLaVA-NeXT: an overview and tiles of each image, by the nearest of a few resolutions.

`pixel_values` is `[I, P, 3, H, W]`, filled with zeros where an image has fewer than P tiles; the
model cuts the filling off, by `image_sizes` `[I, 2]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icons_repro.models.families.base import Family


@dataclass(frozen=True)
class Tiled(Family):
    """A family whose tiles follow from an image's size."""

    def inputs(self, made: Mapping[str, Any], images: int) -> dict[str, torch.Tensor]:
        """Return pixels and sizes."""
        return {name: made[name] for name in ("pixel_values", "image_sizes")}

    def units(self, processor: Any, inputs: Mapping[str, torch.Tensor]) -> int:
        """Count tiles, overviews among them, without the filling."""
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        resolutions = processor.image_processor.image_grid_pinpoints
        side = inputs["pixel_values"].shape[-1]
        sizes = inputs["image_sizes"].tolist()
        return sum(image_size_to_num_patches(size, resolutions, side) for size in sizes)


LLAVA_NEXT = Tiled(model_type="llava_next", title="LLaVA-NeXT")
