"""Toy checkpoints of the three parts of a LLaVA, under the published files' names and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from llama_tokenizer import llama_like, write_sentencepiece
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
SPECIALS = {
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "qwen": ("<|im_start|>", "<|im_end|>"),
}


def write_vision(folder: Path) -> Path:
    """A CLIP tower of 28 pixels and its image processor."""
    tower = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        image_size=28, patch_size=14,
    )  # fmt: skip
    CLIPVisionModel(tower).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return folder


def write_projector(file: Path) -> Path:
    """LLaVA's `mm_projector.bin`."""
    projector = {
        "model.mm_projector.0.weight": torch.randn(32, 24),
        "model.mm_projector.0.bias": torch.randn(32),
        "model.mm_projector.2.weight": torch.randn(32, 32),
        "model.mm_projector.2.bias": torch.randn(32),
    }
    torch.save(projector, file)
    return file


def write_language(folder: Path, template: str, **config: Any) -> Any:
    """A language model of the template's family with its tokenizer; return the model.

    As with the real ones, Llama's tokenizers write the beginning token themselves and Qwen's has
    none, and the end of a text is another token than the end of a turn in all but Vicuna.
    """
    folder.mkdir()
    if template == "v1":
        size = write_sentencepiece(folder, legacy=False).vocab_size()
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
        text: Any = LlamaForCausalLM(LlamaConfig(vocab_size=size, **ids, **SIZES, **config))
    else:
        tokenizer = llama_like(legacy=False, extra=SPECIALS[template])
        if template == "llama3":
            bos = [("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="<s> $A", special_tokens=bos
            )
        else:
            tokenizer.bos_token = None
        tokenizer.save_pretrained(folder)
        config = {"vocab_size": len(tokenizer), "num_key_value_heads": 2, **SIZES, **config}
        if template == "llama3":
            text = LlamaForCausalLM(LlamaConfig(**config))
        else:
            text = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **config))
    text.save_pretrained(folder)
    return text
