"""LLaVA-OneVision: tiles as LLaVA-NeXT for a row with one image, overviews alone for several.

`batch_num_images` `[B]`, the images of each row, tells the model which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icons_repro.models.families.llava_next import Tiled


@dataclass(frozen=True)
class OneVision(Tiled):
    """Tiles only where a row has one image."""

    def units(self, processor: Any, inputs: Mapping[str, torch.Tensor]) -> int:
        """Count tiles, or images where there are several."""
        images = len(inputs["image_sizes"])
        return super().units(processor, inputs) if images == 1 else images


LLAVA_ONEVISION = OneVision(
    model_type="llava_onevision",
    title="LLaVA-OneVision",
    counts="batch_num_images",
    by_prompt=True,
)
