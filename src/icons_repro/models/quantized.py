"""Base weights in 4 or 8 bits, by bitsandbytes, for machines with little memory (QLoRA).

Only the language model's linear layers are quantized: the vision tower, what projects its
features, and the output layer keep their type. What trains is float32 as ever. A trained adapter
is merged into the weights of the base as they were published, not into quantized ones.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch

from icons_repro.core.errors import ConfigError

if TYPE_CHECKING:
    from icons_repro.models.families.base import Family

Bits = Literal[4, 8]
PACKAGE = "bitsandbytes"


def quantization(
    bits: Bits, family: Family, dtype: torch.dtype, device: str | torch.device
) -> dict[str, Any]:
    """Return what `from_pretrained` takes to load a family's model in 4 or 8 bits.

    Raises `ConfigError` where there is no CUDA device, or no bitsandbytes.
    """
    require_cuda(bits, device)
    from transformers import BitsAndBytesConfig

    whole = kept_whole(family)
    if bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=whole,
        )
    return {"quantization_config": config, "device_map": {"": torch.device(device)}}


def kept_whole(family: Family) -> list[str]:
    """Return how the names of modules begin whose layers keep their type.

    From the model on: the last part of a name alone would leave what is inside it to be quantized.
    """
    return [*(f"model.{path}" for path in (*family.vision, *family.projectors)), "lm_head"]


def require_cuda(bits: Bits, device: str | torch.device) -> None:
    """Raise `ConfigError` unless weights of `bits` can be computed with on `device`."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.bits={bits} needs a CUDA device, and this runs on {device}: choose "
            "trainer=gpu on a machine with one, or trainer.bits=null."
        )
    if find_spec(PACKAGE) is None:
        raise ConfigError(
            f"trainer.bits={bits} needs {PACKAGE}: install icons-repro[quantized], or set "
            "trainer.bits=null."
        )
