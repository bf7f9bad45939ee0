"""SmolVLM: tiles of one size and an overview, each with its place written in the text.

The processor gives `pixel_values` by prompt, `[1, U, 3, H, W]`, filled up to the longest prompt.
The model takes any shape of the first two axes and drops the filling, so tiles go in as
`[U, 1, 3, H, W]`, of all rows one after the other and without filling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icons_repro.models.families.base import Family


@dataclass(frozen=True)
class SmolVLM(Family):
    """A family whose processor groups tiles by prompt."""

    def inputs(self, made: Mapping[str, Any], images: int) -> dict[str, torch.Tensor]:
        """Return tiles and their masks, each as a prompt of one."""
        names = ("pixel_values", "pixel_attention_mask")
        return {name: made[name].transpose(0, 1) for name in names if name in made}


SMOLVLM = SmolVLM(
    model_type="smolvlm",
    title="SmolVLM",
    language="text_model",
    vision=("vision_model",),
    projectors=("connector",),
    by_prompt=True,
)
