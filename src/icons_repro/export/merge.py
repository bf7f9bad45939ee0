"""The merged model and the adapter, as other people's programs read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import LlavaImageProcessor, LlavaProcessor

from icons_repro.evaluation.generation import load_merged
from icons_repro.models.families import family_of
from icons_repro.models.llava import load_processor

ADAPTER_FILES = ("adapter_model.safetensors", "projector.safetensors")
NO_BOS_IN_PROMPTS = "{%- if add_generation_prompt %}{% set bos_token = '' %}{% endif -%}"


def write_merged(base: Path, adapter: Path, out: Path, dtype: str, aspect_ratio: str) -> None:
    """Add the adapter to the weights, once, and save model and processor to `out`.

    Of other families than LLaVA-1.5 the processor is the base's own: our code does nothing around
    it that a stock program would not.
    """
    model = load_merged(base, adapter, getattr(torch, dtype), "cpu")
    end = model.generation_config.eos_token_id
    model.save_pretrained(out)
    processor = load_processor(base)
    if family_of(base).squared:
        processor = self_contained(processor, end, aspect_ratio)
    processor.save_pretrained(out)


def self_contained(
    processor: LlavaProcessor, end: int | list[int] | None, aspect_ratio: str
) -> LlavaProcessor:
    """Put into `processor` what our code does around it, for programs that call it plainly.

    Images are padded to a square if the recipe does so. In a prompt, the chat template leaves the
    beginning token to a tokenizer that writes one, or there would be two; in a whole conversation,
    which trainers tokenise without special tokens, it stays. The tokenizer's end token becomes
    `end`, the one that ends an answer: lmms-eval's `llava_hf` stops at that alone.
    """
    if aspect_ratio == "pad":
        settings = processor.image_processor.to_dict()
        settings.pop("image_processor_type", None)
        processor.image_processor = LlavaImageProcessor(**settings | {"do_pad": True})
    tokenizer = processor.tokenizer
    if tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        processor.chat_template = NO_BOS_IN_PROMPTS + str(processor.chat_template)
    if end is not None:
        first = end if isinstance(end, int) else end[0]
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first)
    return processor


def copy_adapter(adapter: Path, out: Path) -> None:
    """Copy the adapter in PEFT's layout, without this machine's path to its base."""
    out.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter / name, out / name)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
