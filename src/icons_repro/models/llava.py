"""Load an image-text model and its processor from a plain Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaProcessor
from transformers.utils import logging

from icons_repro.core.errors import DataError
from icons_repro.models.families import family_of
from icons_repro.models.quantized import Bits, quantization
from icons_repro.models.tokenizer import merge_by_score

SHOW_PROGRESS_FROM = 2**30
"""Bytes of weights from which loading them deserves a progress bar."""


def _folder(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise DataError(
            f"{path} is not a model folder: it has no config.json. "
            "Give the folder that `save_pretrained` wrote, or run the prepare stage."
        )
    return path


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    bits: Bits | None = None,
) -> Any:
    """Load the model of `folder` in `dtype`, in eval mode, without gradients.

    With `bits`, the language model's linear layers are quantized and the rest has `dtype`.

    Raises `DataError` if the folder holds an architecture that is not supported: the type is read
    from config.json, never guessed from the folder's name.
    """
    family = family_of(_folder(folder))
    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) < SHOW_PROGRESS_FROM:
        logging.disable_progress_bar()
    quantized = quantization(bits, family, dtype, device) if bits else {}
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, local_files_only=True, **quantized
    )
    if not bits:
        model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps nn.Module.to
    return model.eval().requires_grad_(False)


def load_processor(folder: Path) -> Any:
    """Load the processor of `folder`, checking that its tokenizer knows the image token.

    Raises `DataError` for a folder without one.
    """
    try:
        processor = AutoProcessor.from_pretrained(_folder(folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"the processor in {folder} cannot be loaded: {why}") from error
    if not hasattr(processor, "image_processor"):
        raise DataError(
            f"{folder} has no processor that prepares images (preprocessor_config.json, "
            "processor_config.json): fetch the repository whole, or save its processor there."
        )
    tokenizer = processor.tokenizer
    merge_by_score(tokenizer, folder)
    token = processor.image_token
    if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
        raise DataError(
            f"the tokenizer in {folder} has no token {token!r}: add it with "
            "tokenizer.add_tokens, resize the model's embeddings, and save both again."
        )
    return processor


def image_sequence_length(processor: LlavaProcessor) -> int:
    """Return how many placeholder tokens one image takes in `input_ids`."""
    crop = processor.image_processor.crop_size
    side = crop["height"] // processor.patch_size
    tokens = side * side + processor.num_additional_image_tokens
    return tokens - (processor.vision_feature_select_strategy == "default")
