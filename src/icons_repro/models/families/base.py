"""What a family says of itself, and what is the same for all.

Where image tokens come from, and how many an image takes, is the processor's own doing: it
prepares the images and gives the text that takes each placeholder's place
(`replace_image_token`), be it a run of tokens, tiles with row and column marks, or a run between
two marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Pictures:
    """The images of one row, as its model takes them."""

    texts: tuple[str, ...]
    """What takes the place of each image's placeholder in the prompt."""
    inputs: Mapping[str, torch.Tensor]
    """Tensors of the model's forward, each with images `[I, ...]` or units `[U, ...]` in front."""
    units: int
    """U: what the vision tower takes one by one: images, tiles or patches."""


@dataclass(frozen=True)
class Family:
    """What one family of models does differently from the others."""

    model_type: str
    """As in config.json."""
    title: str
    """As people know it."""
    language: str = "language_model"
    """The language model's name in the model's body; LoRA is in its layers and nowhere else."""
    vision: tuple[str, ...] = ("vision_tower",)
    """Modules of the body that are frozen; `projectors` may be inside."""
    projectors: tuple[str, ...] = ("multi_modal_projector",)
    """Paths of what leads from the tower to the language model; trained beside LoRA."""
    token_types: str | None = None
    """The input that tells image tokens from text, where there is one."""
    squared: bool = False
    """Whether `data.aspect_ratio=pad` pads images to squares before the processor sees them."""
    by_prompt: bool = False
    """Whether the processor wants images grouped by prompt."""
    counts: str | None = None
    """The input that says how many images each row has, where there is one."""

    def image_token(self, processor: Any) -> str:
        """Return the token whose embedding the images' features replace."""
        return str(processor.image_token)

    def pictures(self, processor: Any, images: Sequence[Image.Image]) -> Pictures:
        """Return the images of one row, in the order of its placeholders.

        They go through the image processor together, by the settings that the processor's own
        call gives it.
        """
        settings = processor._merge_kwargs(
            processor.valid_processor_kwargs,
            tokenizer_init_kwargs=processor.tokenizer.init_kwargs,
        )
        options = {**settings["images_kwargs"], "return_tensors": "pt"}
        made = processor.image_processor([list(images)], **options)
        texts = tuple(processor.replace_image_token(made, i) for i in range(len(images)))
        inputs = self.inputs(made, len(images))
        return Pictures(texts, inputs, self.units(processor, inputs))

    def grouped(self, images: Sequence[Sequence[Image.Image]]) -> list[Any] | None:
        """Return the images of several prompts as the processor takes them; None if none has any.

        `images` are each prompt's own.
        """
        flat = [image for own in images for image in own]
        if not flat:
            return None
        return [list(own) for own in images] if self.by_prompt else flat

    def inputs(self, made: Mapping[str, Any], images: int) -> dict[str, torch.Tensor]:
        """Return the tensors for the model, of what the image processor made of I images."""
        return {"pixel_values": made["pixel_values"]}

    def units(self, processor: Any, inputs: Mapping[str, torch.Tensor]) -> int:
        """Count what the vision tower takes one by one."""
        return len(inputs["pixel_values"])
