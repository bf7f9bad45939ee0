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
from torch.utils.data import DataLoader, Dataset

from icons_repro.core.errors import ConfigError
from icons_repro.core.types import Record
from icons_repro.data.batching import FixedBatches
from icons_repro.data.dataset import Batch
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable
from icons_repro.data.validation import IMAGE_TOKEN
from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass, hidden_size, llava_of, model_inputs
from icons_repro.models.encoders import ClipEncoder

CLIP_BATCH = 64


class CoincideFeatures(FeaturePass):
    """Fills `rows` `[N, 2 L h]`: attention outputs of L layers, vision half then language half.

    Of each chosen layer, the output of the self-attention's `o_proj` is averaged over the image
    tokens and over all other tokens (question, answer and template), each mean goes through tanh
    and is divided by its L2 norm, and all is divided by sqrt(2 L), so that a row with an image has
    length 1. Layout: layer by layer, vision then language. A text-only row has a zero vision half.
    Source: METHODS.md section 4 ([C] autograd_hacks.py), which took layers 3, 7, 11, 15 and 19 of
    TinyLLaVA-2B; which model and layers the paper's row used is not verified.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], dtype: str = "float16") -> None:
        super().__init__()
        self.model = model
        self.llava = llava_of(model)
        self._layers, self._stored = tuple(layers), dtype
        blocks = self.llava.model.language_model.layers
        if not layers or not all(0 <= layer < len(blocks) for layer in layers):
            raise ConfigError(
                f"features.coincide_layers={list(layers)}: the language model has the layers "
                f"0 to {len(blocks) - 1}; name at least one of them."
            )
        self._seen: dict[int, torch.Tensor] = {}
        for layer in self._layers:
            blocks[layer].self_attn.o_proj.register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self._seen[layer] = output.float()

        return keep

    @property
    def columns(self) -> Columns:
        """One vector a row."""
        width = 2 * len(self._layers) * hidden_size(self.llava)
        return {"rows": ((width,), self._stored)}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward through the body; the hooks keep what is averaged."""
        self.llava.model(**model_inputs(batch), use_cache=False)
        real = batch["attention_mask"] > 0
        vision = real & (batch["input_ids"] == self.llava.config.image_token_id)
        parts = [
            functional.normalize(torch.tanh(masked_mean(self._seen[layer], mask)), dim=1)
            for layer in self._layers
            for mask in (vision, real & ~vision)
        ]
        return {"rows": torch.cat(parts, dim=1) / len(parts) ** 0.5}


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


def row_text(record: Record) -> str:
    """Return the words of all turns, without image tags."""
    turns = (turn["value"].replace(IMAGE_TOKEN, "").strip() for turn in record.conversations)
    return " ".join(turn for turn in turns if turn)


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


def clip_loader(
    rows: PictureTexts, encoder: ClipEncoder, positions: np.ndarray, workers: int = 0
) -> DataLoader[Batch]:
    """Return a loader over `positions` in batches of similar text length.

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
    return DataLoader(
        rows,  # type: ignore[arg-type]
        batch_sampler=FixedBatches(batches),
        collate_fn=collate,
        num_workers=workers,
    )
