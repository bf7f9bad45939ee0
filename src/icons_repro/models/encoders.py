"""CLIP: one space for images and texts, from a local folder or, when online, from the hub.

The tiny world's own pair and openai/clip-vit-large-patch14-336 are loaded by the same lines.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, CLIPModel

from icons_repro.core.errors import DataError, UserError

WITH_CLASS_TOKEN = ("dinov2", "dinov2_with_registers", "vit", "clip_vision_model")
"""Vision encoders whose first state is that of a class token."""


@dataclass(frozen=True)
class ClipEncoder:
    """A CLIP model with its own preprocessing (resize, centre crop; text cut at its length)."""

    model: CLIPModel
    processor: Any

    @property
    def dim(self) -> int:
        """Width of the shared space."""
        config: Any = self.model.config
        return int(config.projection_dim)

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Return `[I, 3, H, W]`, each image prepared by itself."""
        prepared: Any = self.processor.image_processor(images, return_tensors="pt")
        return prepared["pixel_values"]

    def tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask` `[B, L]`, cut at the model's length."""
        config: Any = self.model.config.text_config
        length = config.max_position_embeddings
        encoded = self.processor.tokenizer(
            texts, padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return unit vectors float32 `[I, d]`."""
        found = self.model.get_image_features(pixel_values=pixels.to(self.model.dtype))
        return functional.normalize(found.pooler_output.float(), dim=1)

    def encode_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit vectors float32 `[B, d]`."""
        found = self.model.get_text_features(input_ids, attention_mask)
        return functional.normalize(found.pooler_output.float(), dim=1)


@dataclass(frozen=True)
class ImageEncoder:
    """A vision transformer with a class token, and its own preprocessing."""

    model: Any
    processor: Any

    @property
    def dim(self) -> int:
        """Width of its states."""
        return int(self.model.config.hidden_size)

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Return `[I, 3, H, W]`, each image prepared by itself."""
        prepared: Any = self.processor(images, return_tensors="pt")
        return prepared["pixel_values"]

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the class tokens after the last layer, float32 `[I, d]`."""
        found = self.model(pixel_values=pixels.to(self.model.dtype))
        return found.last_hidden_state[:, 0].float()


def load_image_encoder(name: str | Path, dtype: torch.dtype = torch.float32) -> ImageEncoder:
    """Load a DINOv2, a ViT or a CLIP's vision tower as `load_clip` does.

    Raises:
        UserError: neither a folder here, nor can it be fetched.
        DataError: it is a model without images, or without a class token.
    """
    whole, processor = _fetched(
        "features.image_encoder", name, "encoder", dtype, AutoImageProcessor
    )
    model: Any = whole.vision_model if isinstance(whole, CLIPModel) else whole
    if model.config.model_type not in WITH_CLASS_TOKEN:
        raise DataError(
            f"features.image_encoder={name} is a {model.config.model_type}, not one of "
            f"{', '.join(WITH_CLASS_TOKEN)}: PreSel reads an image's class token."
        )
    return ImageEncoder(model.eval().requires_grad_(False), processor)


def load_clip(name: str | Path, dtype: torch.dtype = torch.float32) -> ClipEncoder:
    """Load the CLIP of a Hugging Face folder, or of the hub, in eval mode, without gradients.

    Raises:
        UserError: neither a folder here, nor can it be fetched.
        DataError: it is another kind of model.
    """
    model, processor = _fetched("features.clip", name, "CLIP", dtype, AutoProcessor)
    if not isinstance(model, CLIPModel):
        raise DataError(f"features.clip={name} is a {model.config.model_type}, not a CLIP.")
    return ClipEncoder(model.eval().requires_grad_(False), processor)


def _fetched(
    key: str, name: str | Path, what: str, dtype: torch.dtype, processors: Any
) -> tuple[Any, Any]:
    """Return a model and its processor, of a folder or of the hub.

    Raises `UserError` naming the setting `key`: neither is there, or cannot be loaded.
    """
    local = Path(name).is_dir()
    if not local and offline():
        raise UserError(
            f"{key}={name}: no such folder, and Hugging Face is set offline. Give the folder of "
            f"a downloaded {what}, or unset HF_HUB_OFFLINE."
        )
    try:
        model = AutoModel.from_pretrained(name, dtype=dtype, local_files_only=local)
        return model, processors.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={name}: cannot load it ({error}).") from error


def offline() -> bool:
    """Say whether Hugging Face's clients were told not to use the network."""
    flags = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag.upper() in ("1", "ON", "YES", "TRUE") for flag in flags)
