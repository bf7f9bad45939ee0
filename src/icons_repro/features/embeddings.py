"""Embeddings of rows: COINCIDE's attention outputs, and CLIP's images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from icons_repro.core.errors import ConfigError
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.datamodule import PassPlan
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable
from icons_repro.data.row_text import row_text
from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass, hidden_size, llava_of
from icons_repro.models.batches import Batch, model_inputs
from icons_repro.models.encoders import ClipEncoder
from icons_repro.models.families import language_layers

CLIP_BATCH = 64


class CoincideFeatures(FeaturePass):
    """Fills `rows` `[N, 2 L h]`: attention outputs of L layers, vision half then language half.

    Of each chosen layer, the output of the self-attention's `o_proj` is averaged over the image
    tokens and over the language tokens, each mean goes through tanh and is divided by its L2 norm,
    and all is divided by sqrt(2 L), so that a row with an image has length 1. Layout: layer by
    layer, vision then language. The language tokens are those after the image: question, answer,
    later turns; the system sentence and the opening of the user's turn, the same in all rows, are
    not among them. In a text-only row they are the tokens after that opening, and its vision half
    is zero. Source: G-JWLee/COINCIDE_code, COINCIDE_cluster/tinyllava/eval/score/coincide/
    extract_embed.py:149-153 and 262-280 (with hooks of autograd_hacks.py:102-108). That code counts
    a text-only row's language tokens so too, but reads them where they would stand after an image:
    its halves of such a row are made of whatever padding the batch has, which is not repeated here.
    """

    def __init__(
        self,
        model: nn.Module,
        prompt_tokens: int,
        layers: Sequence[int] | None = None,
        dtype: str = "float16",
    ) -> None:
        """Hook `layers`, from 0; None takes those of `layers_at_sixths`.

        `prompt_tokens`: tokens before the first question, as `prompt_length` counts them. Raises
        `ConfigError` for layers that the model lacks.
        """
        super().__init__()
        self.model = model
        self.llava = llava_of(model)
        blocks: Any = language_layers(model)
        self.layers = layers_at_sixths(len(blocks)) if layers is None else tuple(layers)
        self._prompt, self._stored = prompt_tokens, dtype
        if not self.layers or not all(0 <= layer < len(blocks) for layer in self.layers):
            raise ConfigError(
                f"features.coincide_layers={list(self.layers)}: the language model has the layers "
                f"0 to {len(blocks) - 1}; name at least one of them, or null for the usual five."
            )
        self._seen: dict[int, torch.Tensor] = {}
        for layer in self.layers:
            blocks[layer].self_attn.o_proj.register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self._seen[layer] = output.float()

        return keep

    @property
    def columns(self) -> Columns:
        """One vector a row."""
        width = 2 * len(self.layers) * hidden_size(self.llava)
        return {"rows": ((width,), self._stored)}

    @property
    def facts(self) -> dict[str, int]:
        """How many layers a row is made of."""
        return {"layers": len(self.layers)}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward through the body; the hooks keep what is averaged."""
        self.llava.model(**model_inputs(batch), use_cache=False)
        vision, language = self.masks(batch)
        parts = [
            functional.normalize(torch.tanh(masked_mean(self._seen[layer], mask)), dim=1)
            for layer in self.layers
            for mask in (vision, language)
        ]
        return {"rows": torch.cat(parts, dim=1) / len(parts) ** 0.5}

    def masks(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which tokens are the image's, and which the language half averages: `[B, L]`."""
        real = batch["attention_mask"] > 0
        vision = real & (batch["input_ids"] == self.llava.config.image_token_id)
        places = torch.arange(real.shape[1], device=real.device)
        begun = torch.where(
            vision.any(dim=1, keepdim=True), vision.cumsum(dim=1) > 0, places >= self._prompt
        )
        return vision, real & ~vision & begun


def layers_at_sixths(depth: int) -> tuple[int, ...]:
    """Return the layers, from 0, that end one, two, ... five sixths of a model of `depth` layers.

    COINCIDE's scripts take layers 3, 7, 11, 15 and 19 (extract_embed.sh:25) of TinyLLaVA-2.0B,
    which has 24: the 4th, 8th, ... 20th, j/6 of the way for j = 1 to 5. In another model this is
    the layer in which j/6 of the depth is reached: the ceiling of j depth / 6, counted from 1. A
    model of 32 layers gives 5, 10, 15, 21 and 26. Fewer than five layers give each of them once.
    """
    return tuple(sorted({-(-j * depth // 6) - 1 for j in range(1, 6)}))


def prompt_length(encoder: ConversationEncoder) -> int:
    """Return the tokens before the first question: system sentence, opening of the user's turn."""
    question = "Zq7"  # in no template's own words
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": question}]
    text, _ = encoder.render(turns)
    encoding = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start = text.index(question)
    return sum(end <= start for _, end in encoding["offset_mapping"])


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of `[B, L, h]` over the true tokens of `[B, L]`: `[B, h]`, 0 if none."""
    total = (states * mask[:, :, None]).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp_min(1)


class ClipFeatures(FeaturePass):
    """Fills `image` and `text` float32 `[N, d]`, L2-normalised; `image` is NaN without an image.

    The text is that of all turns, questions and answers, cut at the encoder's length (77 tokens).
    Several images of one row are averaged before normalising.
    """

    def __init__(self, encoder: ClipEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = encoder.model

    @property
    def columns(self) -> Columns:
        """Two vectors a row."""
        return dict.fromkeys(("image", "text"), ((self.encoder.dim,), "float32"))

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Encode both sides."""
        text = self.encoder.encode_tokens(batch["input_ids"], batch["attention_mask"])
        image = torch.full_like(text, torch.nan)
        if "pixel_values" in batch:
            encoded = self.encoder.encode_pixels(batch["pixel_values"])
            sums = torch.zeros_like(text).index_add(0, batch["image_rows"], encoded)
            shown = batch["image_rows"].unique()
            image[shown] = functional.normalize(sums[shown], dim=1)
        return {"image": image, "text": text}


class PictureTexts(Dataset[tuple[int, list[Image.Image], str]]):
    """Rows as CLIP sees them: position, opened images, text."""

    def __init__(self, table: RecordTable, image_root: Path) -> None:
        self.table, self.images = table, ImageFolder(image_root, table.policy)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, position: int) -> tuple[int, list[Image.Image], str]:
        record = self.table[int(position)]
        images = [self.images.load(name) for name in record.images]
        return record.position, images, row_text(record)


def clip_plan(
    rows: PictureTexts, encoder: ClipEncoder, positions: np.ndarray, workers: int = 0
) -> PassPlan:
    """Plan a pass over `positions` in batches of similar text length.

    A batch has `positions` `[B]`, `input_ids` and `attention_mask` `[B, L]` and, if there is any
    image, `pixel_values` `[I, 3, H, W]` with the row of each image in `image_rows` `[I]`.
    """

    def collate(samples: list[tuple[int, list[Image.Image], str]]) -> Batch:
        numbers, images, texts = zip(*samples, strict=True)
        batch = {"positions": torch.tensor(numbers), **encoder.tokens(list(texts))}
        if flat := [image for some in images for image in some]:
            batch["pixel_values"] = encoder.pixels(flat)
            counts = torch.tensor([len(some) for some in images])
            batch["image_rows"] = torch.arange(len(images)).repeat_interleave(counts)
        return batch

    order = positions[np.argsort(-rows.table.words[positions], kind="stable")]
    batches = [order[i : i + CLIP_BATCH] for i in range(0, len(order), CLIP_BATCH)]
    return PassPlan(rows.table, rows, collate, batches, workers)
