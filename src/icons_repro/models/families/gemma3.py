"""Gemma 3: one size for all images, and crops of long ones where the processor is told so.

The placeholder is the mark that begins an image; the features replace another token behind it.
Tokens of one image see each other both ways, which follows from `token_type_ids`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icons_repro.models.families.base import Family


@dataclass(frozen=True)
class Gemma3(Family):
    """A family with a placeholder that is not the image token."""

    def image_token(self, processor: Any) -> str:
        """Return the soft token."""
        return str(processor.tokenizer.image_token)


GEMMA3 = Gemma3(
    model_type="gemma3",
    title="Gemma 3",
    token_types="token_type_ids",
    by_prompt=True,
)
