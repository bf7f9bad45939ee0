"""A small random LLaVA with an adapter, and batches for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

IMAGE_TOKEN = 4
VOCABULARY = 50
IMAGE_TOKENS = 4


def small_llava(seed: int = 0, dtype: torch.dtype = torch.float64) -> LlavaForConditionalGeneration:
    """Return a random LLaVA of two layers, hidden size 16, 4 tokens an image."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        image_size=8, patch_size=4, hidden_size=12, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=12,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, initializer_range=0.3,
        tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN,
        vision_feature_select_strategy="default", vision_feature_layer=-1,
        image_seq_length=IMAGE_TOKENS, tie_word_embeddings=False,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config).to(dtype)


def with_adapter(model: LlavaForConditionalGeneration, seed: int = 1) -> PeftModel:
    """Attach a LoRA of rank 3 with dropout, B drawn at random as after some training."""
    settings = LoraConfig(
        r=3, lora_alpha=6, lora_dropout=0.3, target_modules=r".*language_model.*_proj"
    )
    peft_model = get_peft_model(model, settings, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(0.2 * noise)
    return peft_model


def batch_of(
    rows: Sequence[tuple[int, int, Sequence[int]]],
    *,
    dtype: torch.dtype = torch.float64,
    padding: int = 0,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Build a batch; each row is (images, text tokens, lengths of question, answer, ... turns)."""
    generator = torch.Generator().manual_seed(seed)
    encoded, images = [], 0
    for n_images, n_text, turns in rows:
        text = torch.randint(5, VOCABULARY, (n_text,), generator=generator)
        ids = torch.cat([torch.full((n_images * IMAGE_TOKENS,), IMAGE_TOKEN), text])
        labels = torch.full_like(ids, -100)
        at = n_images * IMAGE_TOKENS
        for number, turn in enumerate(turns):
            if number % 2:
                labels[at : at + turn] = ids[at : at + turn]
            at += turn
        encoded.append((ids, labels))
        images += n_images
    width = max(len(ids) for ids, _ in encoded) + padding
    batch = {
        "input_ids": torch.zeros(len(rows), width, dtype=torch.int64),
        "attention_mask": torch.zeros(len(rows), width, dtype=torch.int64),
        "labels": torch.full((len(rows), width), -100),
        "positions": torch.arange(len(rows)),
    }
    for i, (ids, labels) in enumerate(encoded):
        batch["input_ids"][i, : len(ids)] = ids
        batch["attention_mask"][i, : len(ids)] = 1
        batch["labels"][i, : len(ids)] = labels
    if images:
        pixels = torch.randn(images, 3, 8, 8, generator=generator, dtype=torch.float64)
        batch["pixel_values"] = pixels.to(dtype)
    return batch


MIXED = [
    (1, 9, (3, 4)),
    (0, 12, (4, 3, 2, 3)),
    (2, 10, (5, 5)),
    (0, 5, (2, 3)),
    (1, 14, (2, 2, 2, 2, 2, 4)),
]
"""Rows with and without images, of several lengths and numbers of turns."""
