"""The families of image-text models, one small file for what each does differently.

Everything else is shared: a family is looked up by `model_type` of a folder's config.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig

from icons_repro.core.errors import DataError
from icons_repro.models.answers import base_model
from icons_repro.models.families.base import Family
from icons_repro.models.families.gemma3 import GEMMA3
from icons_repro.models.families.idefics3 import IDEFICS3
from icons_repro.models.families.internvl import INTERNVL
from icons_repro.models.families.llava import LLAVA
from icons_repro.models.families.llava_next import LLAVA_NEXT
from icons_repro.models.families.llava_onevision import LLAVA_ONEVISION
from icons_repro.models.families.qwen2_5_vl import QWEN2_5_VL
from icons_repro.models.families.qwen2_vl import QWEN2_VL
from icons_repro.models.families.qwen3_vl import QWEN3_VL
from icons_repro.models.families.refused import refusal
from icons_repro.models.families.smolvlm import SMOLVLM

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        *(LLAVA, LLAVA_NEXT, LLAVA_ONEVISION, QWEN2_VL, QWEN2_5_VL, QWEN3_VL),
        *(SMOLVLM, IDEFICS3, INTERNVL, GEMMA3),
    )
}
"""Families by the `model_type` of their config."""
IMAGE_MODULES = tuple(
    sorted({name for f in FAMILIES.values() for name in (*f.vision, *f.projectors)})
)
"""Names of modules that see images, of any family: no language model has a part of such a name."""


def sees_images(name: str) -> bool:
    """Say whether a module or parameter of this name is in a vision tower, or in a projector."""
    return any(f".{part}." in f".{name}." for part in IMAGE_MODULES)


def family_of(folder: Path) -> Family:
    """Return the family of a model folder, read from its config.json.

    Raises `DataError` naming the type and the reason for one that is not supported.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except ValueError as error:
        raise DataError(
            f"{folder}/config.json names an architecture that this transformers does not know: "
            f"{str(error).splitlines()[0]} Supported: {', '.join(sorted(FAMILIES))}."
        ) from error
    return supported(config, folder)


def supported(config: Any, folder: Path) -> Family:
    """Return a config's family. Raises `DataError` with the reason if there is none."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise DataError(
            f"{folder}/config.json says model_type={config.model_type!r}: {refusal(config)} "
            f"Supported: {', '.join(sorted(FAMILIES))} (docs/models.md says how to add one)."
        )
    return family


def family_of_model(model: nn.Module) -> Family:
    """Return the family of a loaded model, whatever wraps it."""
    config: Any = base_model(model).config
    return FAMILIES[config.model_type]


def language_layers(model: nn.Module) -> nn.ModuleList:
    """Return the layers of the language model."""
    body: Any = base_model(model)
    layers: nn.ModuleList = getattr(body.model, family_of_model(model).language).layers
    return layers


def vision_modules(model: nn.Module) -> list[nn.Module]:
    """Return the frozen modules that turn pixels into features, without what projects them."""
    body: Any = base_model(model)
    return [getattr(body.model, name) for name in family_of_model(model).vision]
