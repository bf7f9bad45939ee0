"""The model and the batches that the benchmarks run on: random weights, no download."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

IMAGE_TOKEN = 4
VOCABULARY = 2048
IMAGE_TOKENS = 36


def toy_llava(layers: int = 6, hidden: int = 256, inner: int = 688, rank: int = 16) -> PeftModel:
    """Return a random LLaVA with LoRA on all linears of its language model.

    The defaults have 468,480 adapter parameters, as the prototypes that the targets come from.
    """
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        image_size=48, patch_size=8, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, projection_dim=64,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=inner,
        num_hidden_layers=layers, num_attention_heads=4, max_position_embeddings=1024,
        initializer_range=0.05, tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN,
        vision_feature_select_strategy="default", vision_feature_layer=-1,
        image_seq_length=IMAGE_TOKENS, tie_word_embeddings=False,
    )  # fmt: skip
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=r".*language_model.*_proj")
    model = get_peft_model(LlavaForConditionalGeneration(config), settings)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def bucketed_batches(
    n_batches: int, size: int = 8, mean_tokens: int = 126, seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """Return batches of rows of nearly one length each, as a token budget makes them.

    Every row has an image, a question and an answer of a quarter of its text.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.55, 1.45, n_batches)
    batches = []
    for number, factor in enumerate(spread.tolist()):
        longest = max(IMAGE_TOKENS + 8, round(mean_tokens * factor * 1.02))
        lengths = (
            longest - torch.randint(0, max(2, longest // 20), (size,), generator=generator)
        ).tolist()
        batch = {
            "input_ids": torch.zeros(size, max(lengths), dtype=torch.int64),
            "attention_mask": torch.zeros(size, max(lengths), dtype=torch.int64),
            "labels": torch.full((size, max(lengths)), -100),
            "positions": torch.arange(number * size, (number + 1) * size),
            "pixel_values": torch.randn(size, 3, 48, 48, generator=generator),
        }
        for row, length in enumerate(lengths):
            ids = torch.randint(5, VOCABULARY, (length,), generator=generator)
            ids[:IMAGE_TOKENS] = IMAGE_TOKEN
            answer = max(2, (length - IMAGE_TOKENS) // 4)
            batch["input_ids"][row, :length] = ids
            batch["attention_mask"][row, :length] = 1
            batch["labels"][row, length - answer : length] = ids[-answer:]
        batches.append(batch)
    return batches
