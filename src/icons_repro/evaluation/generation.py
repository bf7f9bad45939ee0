"""Answer prompts in batches, exactly as one at a time.

Prompts are padded on the left, so that every row's next token stands in the same column; the
attention mask hides the padding, and `generate` counts positions from the mask. Decoding is greedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from icons_repro.core.errors import DataError
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.lora import load_adapter, projector

if TYPE_CHECKING:
    from PIL import Image

ImageTransform: TypeAlias = "Callable[[Image.Image], Image.Image]"
DEFAULT_MAX_NEW_TOKENS = 1024


@dataclass(frozen=True)
class Prompt:
    """A question as the model reads it."""

    text: str
    """The rendered chat template, one image token for each image."""
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How to decode; hashable, so that requests can be grouped by it."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    until: tuple[str, ...] = ()
    num_beams: int = 1

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Decoding:
        """Read a task's `generation_kwargs`.

        Sampling is never used: LLaVA-1.5's own scripts answer every benchmark at temperature 0.
        """
        until = kwargs.get("until") or ()
        return cls(
            max_new_tokens=int(kwargs.get("max_new_tokens") or DEFAULT_MAX_NEW_TOKENS),
            until=(until,) if isinstance(until, str) else tuple(until),
            num_beams=int(kwargs.get("num_beams") or 1),
        )


def load_merged(
    model_dir: Path, adapter_dir: Path | None, dtype: torch.dtype, device: str
) -> LlavaForConditionalGeneration:
    """Return the model with the adapter added to its weights, once, in memory only.

    The adapter and its projector are float32. Merging rounds W + scale * B A once, to `dtype`; the
    projector is cast to `dtype` here, after merging and nowhere else.

    Raises `DataError` if the weights after merging are not W + scale * B A.
    """
    model = load_model(model_dir, dtype=dtype, device=device)
    if adapter_dir is None:
        return model
    peft_model = load_adapter(model, adapter_dir)
    return merge(peft_model, str(adapter_dir))


def merge(peft_model: PeftModel, adapter: str) -> LlavaForConditionalGeneration:
    """Return the model with its adapter in its weights; `adapter` names it in errors.

    Everything has the type of the frozen weights afterwards. The adapted model is used up.

    Raises `DataError` if the weights after merging are not W + scale * B A.
    """
    name, expected = _one_merged_weight(peft_model, adapter)
    merged: LlavaForConditionalGeneration = peft_model.merge_and_unload()
    weight = merged.get_parameter(name)
    dtype, found = weight.dtype, weight.float()
    rounding = max(2 * torch.finfo(dtype).eps, 1e-5)
    if not torch.allclose(found, expected, rtol=rounding, atol=1e-5):
        raise DataError(f"{adapter}: the adapter was not applied exactly once ({name}).")
    if any(isinstance(module, LoraLayer) for module in merged.modules()):
        raise DataError(f"{adapter}: adapter layers are left after merging.")
    projector(merged).to(dtype)
    return merged.eval().requires_grad_(False)


def _one_merged_weight(peft_model: PeftModel, adapter: str) -> tuple[str, torch.Tensor]:
    """Return one adapted weight's name and what it must be after merging, float32."""
    layers: list[tuple[str, Any]] = list(peft_model.get_base_model().named_modules())
    for name, layer in layers:
        if isinstance(layer, LoraLinear):
            weight: torch.Tensor = layer.get_base_layer().weight  # type: ignore[assignment]
            return f"{name}.weight", weight.float() + layer.get_delta_weight("default").float()
    raise DataError(f"{adapter} adapts no layer of the model.")


class BatchedGenerator:
    """One model, ready to answer."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        processor: LlavaProcessor,
        image_transform: ImageTransform | None = None,
    ) -> None:
        """Take what training did to images before the processor (padding) as `image_transform`."""
        self.model: Any = model
        self.processor: Any = processor
        self.processor.tokenizer.padding_side = "left"
        self.image_transform = image_transform
        self._plain_content = not self._template_reads_parts()

    @classmethod
    def load(
        cls,
        model_dir: Path,
        adapter_dir: Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        image_transform: ImageTransform | None = None,
    ) -> BatchedGenerator:
        """Load the model folder and put the adapter on."""
        model = load_merged(model_dir, adapter_dir, dtype, device)
        return cls(model, load_processor(model_dir), image_transform)

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> Prompt:
        """Render chat messages (`content`: text and image parts) by the processor's template."""
        rendered = [{"role": m["role"], "content": self._content(m["content"])} for m in messages]
        text = self.processor.apply_chat_template(
            rendered, tokenize=False, add_generation_prompt=True
        )
        return Prompt(text, tuple(self._rgb(image) for image in images_in(messages)))

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[str]:
        """Return one answer for each prompt: new tokens only, cut at the first stop string."""
        return self.answer_inputs(self.inputs(prompts), decoding)

    @torch.inference_mode()
    def answer_inputs(self, inputs: Any, decoding: Decoding) -> list[str]:
        """Answer what `inputs` has prepared."""
        inputs = dict(inputs.to(self.model.device, dtype=self.model.dtype))
        tokenizer = self.processor.tokenizer
        end = self.model.generation_config.eos_token_id or tokenizer.eos_token_id
        new = new_tokens(self.model, inputs, decoding, tokenizer.pad_token_id, end)
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        return [cut_at(text, decoding.until).strip() for text in texts]

    def inputs(self, prompts: Sequence[Prompt]) -> Any:
        """Return what the processor makes of prompts, on the CPU: ids, masks and pixels."""
        texts = [prompt.text for prompt in prompts]
        images = [image for prompt in prompts for image in prompt.images]
        bos = self.processor.tokenizer.bos_token
        batch = self.processor(
            text=texts,
            images=images or None,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        batch.pop("token_type_ids", None)
        return batch

    def _content(self, parts: Sequence[Mapping[str, Any]]) -> Any:
        if self._plain_content:
            token = f"{self.processor.image_token}\n"
            return "".join(
                token if part["type"] == "image" else part["text"].strip() for part in parts
            )
        return [
            {"type": "image"}
            if part["type"] == "image"
            else {"type": "text", "text": part["text"].strip()}
            for part in parts
        ]

    def _template_reads_parts(self) -> bool:
        """Whether the chat template takes Hugging Face's list of parts, or only plain strings."""
        parts = [{"type": "image"}, {"type": "text", "text": "probe"}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        return "probe" in text and text.count(self.processor.image_token) == 1 and "{" not in text

    def _rgb(self, image: Image.Image) -> Image.Image:
        image = image.convert("RGB")
        return self.image_transform(image) if self.image_transform else image


@torch.inference_mode()
def new_tokens(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    decoding: Decoding,
    pad: int | None,
    end: int | list[int] | None,
) -> torch.Tensor:
    """Return what the model adds to prompts padded on the left, int64 `[B, new]`.

    A row that has ended is filled up with `pad`.
    """
    tokens = model.generate(
        **inputs,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=pad,
        eos_token_id=end,
    )
    return tokens[:, inputs["input_ids"].shape[1] :]


def images_in(messages: Sequence[Mapping[str, Any]]) -> list[Image.Image]:
    """Return the images of chat messages, in order."""
    parts = [part for message in messages for part in message["content"]]
    return [part["url"] for part in parts if part["type"] == "image"]


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return `text` up to the first of the stop strings."""
    ends = [text.find(stop) for stop in stops if stop]
    found = [end for end in ends if end >= 0]
    return text[: min(found)] if found else text
