"""A LLaVA as it stands before instruction tuning: language model, CLIP tower, aligned projector.

The three come as they were published: a Llama or Qwen2 checkpoint, a CLIP checkpoint, and LLaVA's
`mm_projector.bin` (scripts/v1_5/pretrain.sh of haotian-liu/LLaVA). The result is transformers' own
class and a plain Hugging Face folder.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPImageProcessor,
    CLIPVisionModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from icons_repro.core.errors import DataError
from icons_repro.core.types import IMAGE_TOKEN
from icons_repro.models.template import chat_template
from icons_repro.models.tokenizer import load_tokenizer

LANGUAGE_TYPES = ("llama", "qwen2", "mistral")
ROW_MULTIPLE = 64
"""Rows of the vocabulary come in multiples of this."""
TURN_END = {"v1": "</s>", "llama3": "<|eot_id|>", "qwen": "<|im_end|>"}
"""The token that ends an answer in each template."""
PROJECTOR_KEYS = {"0": "linear_1", "2": "linear_2"}
"""Places in LLaVA's `nn.Sequential` (linear, GELU, linear) and their names in transformers."""


def assemble(
    language: Path,
    vision: Path,
    projector: Path,
    out: Path,
    *,
    template: str = "v1",
    dtype: torch.dtype = torch.bfloat16,
) -> LlavaForConditionalGeneration:
    """Join the three checkpoints, write the model and its processor to `out`, return the model.

    Raises `DataError` for a checkpoint of another type, and for a projector that does not fit.
    """
    _model_type(language, LANGUAGE_TYPES, "language")
    _model_type(vision, ("clip", "clip_vision_model"), "vision")
    text = AutoModelForCausalLM.from_pretrained(language, dtype=dtype, local_files_only=True)
    tower = CLIPVisionModel.from_pretrained(vision, dtype=dtype, local_files_only=True)
    tokenizer = prepare_tokenizer(language)
    add_rows(text, len(tokenizer))
    config = llava_config(text.config, tower.config, tokenizer)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model = text.model
    model.model.vision_tower = tower
    model.lm_head = text.lm_head
    _put_projector(model, read_projector(projector), projector, dtype)
    end = tokenizer.convert_tokens_to_ids(TURN_END[template])
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id
    )
    processor = build_processor(vision, tower.config, tokenizer, template)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return model.eval()


def _model_type(folder: Path, allowed: tuple[str, ...], part: str) -> None:
    if not (folder / "config.json").is_file():
        raise DataError(f"model.{part}={folder} has no config.json: not a whole checkpoint.")
    found = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    if found not in allowed:
        raise DataError(
            f"model.{part}={folder} is a {found!r} checkpoint; this part takes "
            f"{' or '.join(allowed)}."
        )


def prepare_tokenizer(language: Path) -> Any:
    """Load the tokenizer; add the image token, and a padding token where there is none.

    LLaVA-1.5 pads with `<unk>`; a tokenizer without one pads with its end token.
    """
    tokenizer = load_tokenizer(language)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    tokenizer.padding_side = "right"
    return tokenizer


def add_rows(text: Any, size: int) -> None:
    """Give the vocabulary `size` rows at least, a multiple of 64; a new row is the old ones' mean.

    LLaVA-1.5 has no row for the image token. Its embedding is replaced by image features, and the
    mean output row gives it the mean logit, far below any token that is likely. Tensor cores want
    the multiple; llava-hf's own conversions have it (32,064 rows), so every loader knows models
    with more rows than their tokenizer has tokens. No text has the rows beyond, and greedy decoding
    never writes them: no mean is the largest.
    """
    old = text.get_input_embeddings().num_embeddings
    size = -(-max(size, old) // ROW_MULTIPLE) * ROW_MULTIPLE
    if size <= old:
        return
    tied = text.get_input_embeddings().weight is text.get_output_embeddings().weight
    text.resize_token_embeddings(size, mean_resizing=False)
    parts = [text.get_input_embeddings()] + ([] if tied else [text.get_output_embeddings()])
    for part in parts:
        part.weight.data[old:] = part.weight.data[:old].float().mean(0).to(part.weight.dtype)


def llava_config(text: Any, vision: Any, tokenizer: Any) -> LlavaConfig:
    """Return LLaVA-1.5's architecture around two checkpoints' configs."""
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        tie_word_embeddings=bool(text.tie_word_embeddings),
        **ids,
    )


def read_projector(path: Path) -> dict[str, torch.Tensor]:
    """Read `mm_projector.bin` (`model.mm_projector.0.weight`, ...) under transformers' names.

    `path` is the file, or a folder that holds it.
    """
    file = path / "mm_projector.bin" if path.is_dir() else path
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"model.projector={path}: there is no {file.name}.") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{file} cannot be read, it may be half downloaded: fetch it again. "
            f"({str(error).splitlines()[0]})"
        ) from error
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"(?:.*\.)?mm_projector\.(\d+)\.(weight|bias)", key)
        if not match or match[1] not in PROJECTOR_KEYS:
            raise DataError(
                f"{file} holds {key!r}; expected model.mm_projector.{{0,2}}.{{weight,bias}}, the "
                "two-layer projector (mlp2x_gelu) of LLaVA-1.5."
            )
        renamed[f"{PROJECTOR_KEYS[match[1]]}.{match[2]}"] = value
    return renamed


def _put_projector(
    model: LlavaForConditionalGeneration,
    state: dict[str, torch.Tensor],
    path: Path,
    dtype: torch.dtype,
) -> None:
    module = model.model.multi_modal_projector
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        raise DataError(
            f"{path} has the shapes {found}, but this language model and tower need {expected}: "
            "it was trained for another pair."
        )
    tensors = {name: value.to(dtype).contiguous() for name, value in state.items()}
    module.load_state_dict(tensors, assign=True)


def build_processor(vision: Path, config: Any, tokenizer: Any, template: str) -> LlavaProcessor:
    """Return the processor: CLIP's own image processor, the tokenizer, our chat template."""
    if not (vision / "preprocessor_config.json").is_file():
        raise DataError(f"model.vision={vision} has no preprocessor_config.json.")
    return LlavaProcessor(
        image_processor=CLIPImageProcessor.from_pretrained(vision, local_files_only=True),
        tokenizer=tokenizer,
        patch_size=config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(template, tokenizer),
    )
