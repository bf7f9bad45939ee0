"""The small CPU model of the tiny world: a LLaVA of transformers' own classes, 0.6M parameters.

CLIP vision tower (32x32 pixels, patches of 8, so 16 image tokens) -> two-layer projector -> Llama.
One word is one token. The pre-trained base that ships in `weights/base/` is to this model what
Vicuna and the aligned projector are to LLaVA-1.5. A second base, of a narrower language model, is
there to select with one model and train another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.tiny.weights import NARROW_BASE, TINY_BASE

WIDTH, NARROW_WIDTH = 96, 64
"""Hidden sizes of the two bases' language models."""

SPECIALS = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
IMAGE_SIDE, PATCH_SIDE = 32, 8
IMAGE_TOKENS = (IMAGE_SIDE // PATCH_SIDE) ** 2
MAX_TOKENS = 128


def tiny_vocabulary() -> tuple[str, ...]:
    """Return every token in id order: the five specials, then one word a token."""
    words = (TINY_BASE / "vocabulary.txt").read_text().split()
    return (*SPECIALS, *words)


def tiny_config(width: int = WIDTH) -> LlavaConfig:
    """Return the architecture; weights are initialised with standard deviation 0.05."""
    vision = CLIPVisionConfig(
        image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=64,
    )
    ids = {token: i for i, token in enumerate(SPECIALS)}
    shared: dict[str, Any] = {
        "pad_token_id": ids["<pad>"],
        "bos_token_id": ids["<s>"],
        "eos_token_id": ids["</s>"],
        "initializer_range": 0.05,
    }
    text = LlamaConfig(
        vocab_size=len(tiny_vocabulary()),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=False,
        **shared,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
        **shared,
    )


def build_tiny_llava(seed: int, width: int = WIDTH) -> LlavaForConditionalGeneration:
    """Return the model with random weights (float32), drawn from `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(tiny_config(width))
    return model.eval()


def build_tiny_processor() -> LlavaProcessor:
    """Return the processor: CLIP's image processor, a word tokenizer, and the chat template.

    The template writes `USER: <image> question ASSISTANT: answer </s>` and marks each answer with
    its `</s>` as generated, so that transformers can return the answers' token mask.
    """
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIDE},
        crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=_tokenizer(),
        patch_size=PATCH_SIDE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(TINY_BASE / "chat_template.jinja").read_text(),
    )


def weights_file(width: int) -> Path:
    """Return the shipped weights of a width. Raises `ConfigError` if there are none."""
    folders = {WIDTH: TINY_BASE, NARROW_WIDTH: NARROW_BASE}
    if width not in folders:
        raise ConfigError(f"model.width={width}: tiny bases ship at widths {sorted(folders)}.")
    return folders[width] / "model.safetensors"


def load_tiny_base(width: int = WIDTH) -> LlavaForConditionalGeneration:
    """Return the shipped pre-trained model in float32.

    Raises:
        UserError: the shipped weights do not fit the architecture (an incomplete installation).
    """
    model = build_tiny_llava(0, width)
    weights = weights_file(width)
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{weights}: cannot load the tiny base model ({error}); "
            "reinstall the package, or rebuild the file with experiment=pretrain_tiny"
        ) from error
    return model


def write_tiny_base(out: Path, width: int = WIDTH) -> None:
    """Write the shipped base as a plain Hugging Face folder.

    `LlavaForConditionalGeneration.from_pretrained(out)` and `AutoProcessor.from_pretrained(out)`
    load it.
    """
    save_tiny_llava(load_tiny_base(width), out)


def save_weights(folder: Path, out: Path) -> None:
    """Write the weights of a Hugging Face folder as the file that ships (module names, float32)."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, out)


def save_tiny_llava(model: LlavaForConditionalGeneration, out: Path) -> None:
    """Write a tiny LLaVA with its processor as a plain Hugging Face folder."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    build_tiny_processor().save_pretrained(out)


def _tokenizer() -> PreTrainedTokenizerFast:
    ids = {token: i for i, token in enumerate(tiny_vocabulary())}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("?", "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=MAX_TOKENS,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
