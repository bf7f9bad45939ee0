"""A LLaVA of a published shape with random weights, and rows and prompts for it, on the device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from peft import PeftModel
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from icons_repro.core.settings import LoraSettings
from icons_repro.gpu_check.shapes import SHAPES, Shape
from icons_repro.gradients.attention import AttentionChoice
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections import Projection, build_projection
from icons_repro.models.batches import IGNORE
from icons_repro.models.lora import attach_lora, checkpoint_layers

PAD, BEGIN, END, IMAGE, FIRST_WORD = 0, 1, 2, 4, 5
"""Token ids; texts are drawn from those after them."""
Model = TypeVar("Model", PeftModel, LlavaForConditionalGeneration)


def llava_config(shape: Shape, layers: int | None = None) -> LlavaConfig:
    """Return the architecture, with only the first `layers` of the language model if given."""
    ids: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
    text = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=layers or shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        **ids,
    )
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**shape.tower),  # type: ignore[arg-type]
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=shape.image_tokens,
        tie_word_embeddings=False,
        **ids,
    )


def build(
    shape: Shape, device: torch.device, dtype: torch.dtype, layers: int | None = None
) -> LlavaForConditionalGeneration:
    """Return a frozen model with random weights, drawn on the device: nothing crosses the bus."""
    torch.manual_seed(0)
    with torch.device(device), _default_dtype(dtype):
        model = LlavaForConditionalGeneration(llava_config(shape, layers))
    return model.eval().requires_grad_(False)


def adapt(shape: Shape, model: LlavaForConditionalGeneration, dropout: float = 0.0) -> PeftModel:
    """Attach a fresh adapter on the model's device, as training does."""
    settings = LoraSettings(shape.rank, 2 * shape.rank, dropout)
    with torch.device(model.device):
        return attach_lora(model, settings)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Rig:
    """A device with at most one model on it, and what is learnt along the way."""

    def __init__(self, size: str, device: torch.device) -> None:
        self.size = size
        self.shape = SHAPES[size]
        self.device = device
        self.attention: AttentionChoice | None = None
        """The self-test's choice, once it has run."""
        self.tokens_per_second: dict[int, float] = {}
        """Of extraction, by token budget."""
        self._kept: tuple[Any, Any] = (None, None)
        self._projection: Projection | None = None
        torch.backends.cudnn.allow_tf32 = False  # float32 lines ask for float32

    def base(
        self, dtype: torch.dtype = torch.bfloat16, layers: int | None = None
    ) -> LlavaForConditionalGeneration:
        """Return a model without an adapter."""
        return self._keep(
            ("base", dtype, layers), lambda: build(self.shape, self.device, dtype, layers)
        )

    def adapted(self, dtype: torch.dtype = torch.bfloat16, layers: int | None = None) -> PeftModel:
        """Return a model with an adapter whose B is random, as after some training."""

        def make() -> PeftModel:
            model = adapt(self.shape, build(self.shape, self.device, dtype, layers))
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:
                    parameter.data.normal_(0, 0.02)
            return model.eval()

        return self._keep(("adapted", dtype, layers), make)

    def trainable(self) -> PeftModel:
        """Return a bfloat16 model with a fresh adapter, its layers recomputed as the recipe asks.

        Training changes it, so it is another model than `adapted`.
        """

        def make() -> PeftModel:
            base = build(self.shape, self.device, torch.bfloat16)
            model = adapt(self.shape, base, dropout=0.05)
            if self.shape.checkpointed:
                checkpoint_layers(base)
            return model

        return self._keep("trainable", make)

    def projection(self, layout: ParameterLayout) -> Projection:
        """Return the default projection, drawn once for the adapter of all layers."""
        if self._projection is None or self._projection.layout != layout:
            self._projection = build_projection(layout, "count_sketch", self.shape.dim)
        return self._projection

    def autocast(self) -> torch.autocast:
        """Return bfloat16 autocast, under which passes run with `trainer.precision=bf16-mixed`."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def reset_peak(self) -> None:
        """Begin to watch how much memory is held at most."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Return how many bytes were held at most; 0 on a CPU, where nobody counts."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def drop(self) -> None:
        """Let go of the model."""
        self._kept = (None, None)
        self.tidy()

    def tidy(self) -> None:
        """Give back the memory that nothing holds."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def rows(
        self, texts: Sequence[int], images: Sequence[bool] | None = None, seed: int = 0
    ) -> dict[str, torch.Tensor]:
        """Return a batch for training and gradients, padded on the right.

        Args:
            texts: tokens of text of each row `[B]`; the second half is the answer.
            images: whether each row has an image; all have unless given.
            seed: of texts and pixels.
        """
        batch = self._batch(texts, images, seed, left=False)
        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(dim=1)
        answers = torch.as_tensor([n // 2 for n in texts], device=self.device)
        column = torch.arange(ids.shape[1], device=self.device)[None]
        inside = (column < lengths[:, None]) & (column >= (lengths - answers)[:, None])
        batch["labels"] = torch.where(inside, ids, IGNORE)
        batch["positions"] = torch.arange(len(texts), device=self.device)
        return batch

    def prompts(self, texts: Sequence[int], seed: int = 0) -> dict[str, torch.Tensor]:
        """Return prompts with an image each, padded on the left."""
        return self._batch(texts, None, seed, left=True)

    def _batch(
        self, texts: Sequence[int], images: Sequence[bool] | None, seed: int, left: bool
    ) -> dict[str, torch.Tensor]:
        shape, generator = self.shape, torch.Generator().manual_seed(seed)
        with_image = [True] * len(texts) if images is None else list(images)
        sequences = []
        for n, image in zip(texts, with_image, strict=True):
            words = torch.randint(FIRST_WORD, shape.vocabulary, (n,), generator=generator)
            marks = torch.full((image * shape.image_tokens,), IMAGE)
            sequences.append(torch.cat([torch.tensor([BEGIN]), marks, words]))
        side = "left" if left else "right"
        pad = torch.nn.utils.rnn.pad_sequence
        batch = {
            "input_ids": pad(sequences, True, PAD, side),
            "attention_mask": pad([torch.ones_like(s) for s in sequences], True, 0, side),
        }
        if any(with_image):
            pixels = (sum(with_image), 3, *2 * (shape.tower["image_size"],))
            batch["pixel_values"] = torch.randn(pixels, generator=generator)
        return {name: value.to(self.device) for name, value in batch.items()}

    def _keep(self, key: Any, make: Callable[[], Model]) -> Model:
        if self._kept[0] != key:
            self.drop()
            self._kept = (key, make())
        model: Model = self._kept[1]
        return model
