"""Toy models of every family: their own config, model and processor classes, at hidden size 32.

The chat templates are written anew in the format that each family's published one gives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedTokenizerFast

SIDE = 16
"""Pixels of a tile."""
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
RESOLUTIONS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
PARTS = (
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- IMAGE -}}{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
)


def chatml(image: str, system: str = "") -> str:
    """Qwen's and InternVL's format; `system` is what begins every conversation."""
    begin = f"{{{{- '<|im_start|>system\\n{system}<|im_end|>\\n' -}}}}" if system else ""
    return (
        begin
        + "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\\n' -}}"
        + PARTS.replace("IMAGE", repr(image))
        + "{{- '<|im_end|>\\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )


INSTRUCT = (
    "{%- for message in messages -%}{%- if message['role'] == 'user' -%}{{- '[INST] ' -}}"
    + PARTS.replace("IMAGE", "'<image>\\n'")
    + "{{- ' [/INST]' -}}{%- else -%}{{- ' ' -}}"
    + PARTS
    + "{{- eos_token -}}{%- endif -%}{%- endfor -%}"
)
"""LLaVA-NeXT on Mistral; the tokenizer writes the beginning token."""
MARKED = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + ' ' -}}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>' -}}"
    "{%- endfor -%}{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- '\\n' + part['text'] -}}{%- endgeneration -%}"
    "{%- else -%}{{- '\\n' + part['text'] -}}{%- endif -%}{%- endfor -%}"
    "{{- '<|im_end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""LLaVA-OneVision: answers are marked, without the token that ends them."""
UTTERANCES = (
    "{{- '<|im_start|>' -}}{%- for message in messages -%}{{- message['role'] | capitalize -}}"
    "{{- ':' if message['content'][0]['type'] == 'image' else ': ' -}}"
    + PARTS.replace("IMAGE", "'<image>'")
    + "{{- '<end_of_utterance>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
"""SmolVLM."""
TURNS = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('Conversation roles must alternate') -}}{%- endif -%}"
    "{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' -}}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<start_of_image>' -}}"
    "{%- else -%}{{- part['text'] | trim -}}{%- endif -%}{%- endfor -%}"
    "{{- '<end_of_turn>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
)
"""Gemma 3."""


def byte_tokenizer(
    specials: tuple[str, ...],
    end: str,
    named: dict[str, str] | None = None,
    begin: str | None = None,
) -> PreTrainedTokenizerFast:
    """A BPE over bytes that merges line breaks; `begin` is put before every text.

    Named tokens are attributes of the tokenizer, as processors read them.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", *alphabet, "ĊĊ", "Ġred"])}
    letters = [("Ċ", "Ċ"), ("Ġ", "r"), ("Ġr", "e"), ("Ġre", "d")]
    for left, right in letters:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(BPE(vocabulary, letters))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=end,
        pad_token="<pad>",
        extra_special_tokens=named or {},
        padding_side="right",
    )
    made.add_tokens(list(specials), special_tokens=True)
    if begin:
        ids = [(begin, made.convert_tokens_to_ids(begin))]
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A", special_tokens=ids
        )
    return made


def _clip(**more: Any) -> hf.CLIPVisionConfig:
    return hf.CLIPVisionConfig(image_size=SIDE, patch_size=8, projection_dim=16, **VISION, **more)


def llava_next() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), "</s>", begin="<s>")
    config = hf.LlavaNextConfig(
        vision_config=_clip(),
        text_config=hf.LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=RESOLUTIONS,
        vision_feature_layer=-2,
    )
    processor = hf.LlavaNextProcessor(
        image_processor=hf.LlavaNextImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=RESOLUTIONS,
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=INSTRUCT,
    )
    return config, processor


def llava_onevision() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(("<|im_start|>", "<|im_end|>", "<image>", "<video>"), "<|im_end|>")
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(image_size=SIDE, patch_size=8, **VISION),
        text_config=hf.Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=RESOLUTIONS,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(
            size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=RESOLUTIONS
        ),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=MARKED,
    )
    return config, processor


QWEN_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = ("image", "video", "vision_start", "vision_end")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    return {f"{name}_token_id": i for name, i in zip(names, ids, strict=True)}


def _qwen_images() -> Any:
    return hf.Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    )


def qwen2_vl() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(QWEN_TOKENS, "<|im_end|>")
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    config = hf.Qwen2VLConfig(
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, **TEXT},
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    processor = hf.Qwen2VLProcessor(
        image_processor=_qwen_images(),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(patch_size=4, merge_size=2),
        chat_template=chatml(QWEN_IMAGE, "You are a helpful assistant."),
    )
    return config, processor


def qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(QWEN_TOKENS, "<|im_end|>")
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    config = hf.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16,
            "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, **TEXT},
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=_qwen_images(),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(patch_size=4, merge_size=2),
        chat_template=chatml(QWEN_IMAGE, "You are a helpful assistant."),
    )
    return config, processor


def qwen3_vl() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(QWEN_TOKENS, "<|im_end|>")
    rope = {
        "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    }  # fmt: skip
    config = hf.Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        text_config={
            "vocab_size": len(tokenizer), "rope_parameters": rope, "head_dim": 8, **TEXT
        },
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    processor = hf.Qwen3VLProcessor(
        image_processor=_qwen_images(),
        tokenizer=tokenizer,
        video_processor=hf.Qwen3VLVideoProcessor(patch_size=4, merge_size=2),
        chat_template=chatml(QWEN_IMAGE),
    )
    return config, processor


def _with_tiles(config_class: Any, vision_class: Any) -> tuple[Any, Any]:
    """A config whose images are tiles with written places, and its tokenizer."""
    places = tuple(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2))
    marks = ("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>")
    tokenizer = byte_tokenizer(("<|im_start|>", *marks, *places), "<end_of_utterance>")
    pad = tokenizer.pad_token_id
    config = config_class(
        vision_config=vision_class(image_size=SIDE, patch_size=4, **VISION),
        text_config=hf.LlamaConfig(vocab_size=len(tokenizer), pad_token_id=pad, **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=pad,
    )
    return config, tokenizer


TILES = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}


def smolvlm() -> tuple[Any, Any]:
    config, tokenizer = _with_tiles(hf.SmolVLMConfig, hf.SmolVLMVisionConfig)
    processor = hf.SmolVLMProcessor(
        image_processor=hf.SmolVLMImageProcessor(**TILES),
        tokenizer=tokenizer,
        video_processor=hf.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=UTTERANCES,
    )
    return config, processor


def idefics3() -> tuple[Any, Any]:
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

    config, tokenizer = _with_tiles(hf.Idefics3Config, Idefics3VisionConfig)
    processor = hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(**TILES),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=UTTERANCES,
    )
    return config, processor


def internvl() -> tuple[Any, Any]:
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    tokenizer = byte_tokenizer(("<|im_start|>", "<|im_end|>"), "<|im_end|>", named)
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(image_size=[SIDE] * 2, patch_size=[4, 4], **VISION),
        text_config=hf.Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(
            size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=chatml("<IMG_CONTEXT>\n"),
    )
    return config, processor


def gemma3() -> tuple[Any, Any]:
    named = {
        "image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }  # fmt: skip
    turns = ("<bos>", "<start_of_turn>", "<end_of_turn>")
    tokenizer = byte_tokenizer(turns, "<end_of_turn>", named, begin="<bos>")
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(image_size=SIDE, patch_size=4, **VISION),
        text_config=hf.Gemma3TextConfig(
            vocab_size=len(tokenizer), head_dim=8, query_pre_attn_scalar=8, sliding_window=16,
            layer_types=["sliding_attention", "full_attention"], **TEXT,
        ),
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )  # fmt: skip
    processor = hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        chat_template=TURNS,
        image_seq_length=4,
    )
    return config, processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    build.__name__: build
    for build in (
        *(llava_next, llava_onevision, qwen2_vl, qwen2_5_vl, qwen3_vl),
        *(smolvlm, idefics3, internvl, gemma3),
    )
}
"""By model_type: a function that returns the family's config and processor."""


def write_toy(model_type: str, folder: Path) -> Path:
    """Write a random model of the family with its processor, as `save_pretrained` does."""
    config, processor = BUILDERS[model_type]()
    end, pad = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id
    torch.manual_seed(0)
    model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    liven(model)
    model.generation_config = hf.GenerationConfig(eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def liven(model: nn.Module) -> None:
    """Draw matrices and vectors large enough that every part of the model matters."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
