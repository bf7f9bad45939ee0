"""The sizes that can be asked for: published widths and depths, and amounts of work to fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shape:
    """Widths and depths, and the amounts of work that make sense for them."""

    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    tower: dict[str, int]
    """`CLIPVisionConfig`'s fields."""
    rank: int
    rate: float
    """Learning rate of the adapter."""
    text: int
    """Tokens of text in a row."""
    dim: int
    """Length of a projected row."""
    checkpointed: bool
    """Recompute layers where the recipe would: in training."""
    budgets: tuple[int, ...]
    """Padded tokens of a batch to time extraction at."""
    micro_batches: tuple[int, ...]
    answers: tuple[int, ...]
    """Prompts at once to time answering at."""
    stored_rows: int
    """Rows of the store that scoring is timed on."""
    rounds: int
    """Repetitions of a timing."""

    @property
    def image_tokens(self) -> int:
        """Tokens that one image takes."""
        return (self.tower["image_size"] // self.tower["patch_size"]) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of a usual row: beginning, image, text."""
        return 1 + self.image_tokens + self.text


CLIP_LARGE_336 = {
    "image_size": 336,
    "patch_size": 14,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
}
"""openai/clip-vit-large-patch14-336's config.json."""
TINY_TOWER = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 64,
}
SHAPES = {
    "tiny": Shape(
        192, 96, 256, 4, 4, 4, TINY_TOWER, rank=8, rate=2e-3, text=31, dim=512, checkpointed=False,
        budgets=(96, 384), micro_batches=(1, 4), answers=(1, 8), stored_rows=4096, rounds=3,
    ),
    # TinyLlama/TinyLlama-1.1B-Chat-v1.0's config.json, with LLaVA-1.5's tower and adapter
    "1b": Shape(
        32064, 2048, 5632, 22, 32, 4, CLIP_LARGE_336, rank=128, rate=2e-4, text=239, dim=5120,
        checkpointed=True, budgets=(1024, 4096, 8192, 16384), micro_batches=(1, 4, 16),
        answers=(1, 8, 32, 64), stored_rows=16384, rounds=5,
    ),
    # lmsys/vicuna-7b-v1.5's config.json; LLaVA-1.5's adapter (scripts/v1_5/finetune_lora.sh)
    "7b": Shape(
        32064, 4096, 11008, 32, 32, 32, CLIP_LARGE_336, rank=128, rate=2e-4, text=239, dim=5120,
        checkpointed=True, budgets=(2048, 4096, 8192, 12288), micro_batches=(1, 4, 16),
        answers=(1, 8, 32, 64), stored_rows=16384, rounds=3,
    ),
}  # fmt: skip
LARGE = 70 * 2**30
"""Bytes of a card from which `7b` is the usual size."""


def usual_size(device: torch.device) -> str:
    """Return the size to take where none is asked for."""
    if device.type != "cuda":
        return "tiny"
    return "7b" if torch.cuda.get_device_properties(device).total_memory >= LARGE else "1b"
