"""How large a model is: from `model.shape`, or from the folder of any family, without its weights.

The model is built on torch's meta device, so a 70B one takes seconds and no memory; its processor
says how many tokens an image takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import UserError
from icons_repro.core.settings import LoraSettings, ModelSettings
from icons_repro.preflight.cost import Counts, counts

if TYPE_CHECKING:
    from torch import nn

PICTURE = (640, 480)
"""Width and height of the image whose tokens are counted, where these follow from its size: the
commonest of COCO, which most pools draw on."""


@dataclass(frozen=True)
class ModelSize:
    """What a plan's arithmetic needs of a model."""

    counts: Counts
    layers: int
    """Of the language model, as is the hidden size."""
    hidden: int
    image_tokens: int
    """Of one image, in the language model."""
    patches: int
    """Of one image, in the vision tower."""


def model_size(model: ModelSettings, lora: LoraSettings) -> ModelSize | None:
    """Return the size of a model; None where neither its shape nor its files are known.

    Raises `ConfigError` for a shape that lacks a key.
    """
    if model.shape:
        s = model.shape
        n = counts(model, lora)
        return ModelSize(n, s["layers"], s["hidden"], s["image_tokens"], s["image_tokens"] + 1)
    if model.kind != "folder" or not model.folder:
        return None
    try:
        return _of_folder(model.folder, json.dumps(model.images or {}), lora.rank)
    except UserError:  # said where the model is looked at
        return None


@cache
def _of_folder(name: str, images: str, rank: int) -> ModelSize | None:
    from icons_repro.models.families import family_of, language_layers
    from icons_repro.models.hub import already_here
    from icons_repro.models.jobs import change_images
    from icons_repro.models.llava import load_processor

    folder = already_here(name)
    if folder is None:
        return None
    family, processor = family_of(folder), load_processor(folder)
    change_images(processor, json.loads(images))
    model = _without_weights(folder)
    text, vision = model.config.get_text_config(), model.config.vision_config
    tokens, pixels = _picture(family, processor)
    patch = vision.patch_size
    each = math.prod(patch) if isinstance(patch, (list, tuple)) else patch**2
    return ModelSize(
        counted(model, rank),
        layers=len(language_layers(model)),
        hidden=text.hidden_size,
        image_tokens=tokens,
        patches=pixels // (3 * each * getattr(vision, "temporal_patch_size", 1)),
    )


def _without_weights(folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _picture(family: Any, processor: Any) -> tuple[int, int]:
    """Return the tokens of one image, and the numbers that the vision tower gets."""
    from PIL import Image

    made = family.pictures(processor, [Image.new("RGB", PICTURE)])
    ids = processor.tokenizer(made.texts[0], add_special_tokens=False).input_ids
    return len(ids), made.inputs["pixel_values"].numel()


def counted(model: Any, rank: int) -> Counts:
    """Count the weights by part, tied ones once, and those of an adapter on the language model."""
    from torch import nn

    from icons_repro.models.families import language_layers, vision_modules
    from icons_repro.models.lora import projectors

    layers = language_layers(model)
    linears = [m for m in layers.modules() if isinstance(m, nn.Linear)]
    head = model.get_output_embeddings().weight
    projector = _parameters(projectors(model).values())
    vision = _parameters(vision_modules(model)) - projector
    inside = sum(m.weight.numel() for m in linears)
    everything = set(model.parameters())
    rest = sum(p.numel() for p in everything - projector - vision) - inside - head.numel()
    return Counts(
        language=inside + head.numel(),
        head=head.numel(),
        embedding=rest,
        vision=sum(p.numel() for p in vision),
        projector=sum(p.numel() for p in projector),
        adapter=rank * sum(m.in_features + m.out_features for m in linears),
    )


def _parameters(modules: Iterable[nn.Module]) -> set[nn.Parameter]:
    return {p for module in modules for p in module.parameters()}
