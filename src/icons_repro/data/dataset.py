"""Records and images, sample by sample and then in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import LlavaProcessor

from icons_repro.data.conversation import ConversationEncoder, EncodedConversation
from icons_repro.data.images import AspectRatio, ImageFolder, pad_to_square
from icons_repro.data.records import RecordTable
from icons_repro.models.batches import IGNORE, Batch

if TYPE_CHECKING:
    from icons_repro.data.picture_encoder import PicturedConversation
    from icons_repro.models.families.base import Family


@dataclass(frozen=True)
class Sample:
    """One encoded row, and its opened images where the collator prepares them."""

    position: int
    conversation: EncodedConversation
    images: list[Image.Image]


class ConversationDataset(Dataset[Sample]):
    """Rows of a `RecordTable`; index it by pool position."""

    def __init__(
        self,
        table: RecordTable,
        image_root: Path,
        encoder: ConversationEncoder,
    ) -> None:
        self.table = table
        self.images = ImageFolder(image_root, table.policy)
        self.encoder = encoder

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, position: int) -> Sample:
        record = self.table[int(position)]
        images = [self.images.load(name) for name in record.images]
        encoded = self.encoder.encode(record, images)
        return Sample(record.position, encoded, images if self.encoder.leaves_images else [])


def mean_colour(processor: LlavaProcessor) -> tuple[int, int, int]:
    """Return the colour that images are padded with: the processor's mean, times 255."""
    red, green, blue = (int(channel * 255) for channel in processor.image_processor.image_mean)
    return red, green, blue


class Collator:
    """Pad samples on the right and run the image processor once for the whole batch."""

    def __init__(self, processor: LlavaProcessor, aspect_ratio: AspectRatio = "pad") -> None:
        self.pad_id = processor.tokenizer.pad_token_id
        self.image_processor = processor.image_processor
        self.aspect_ratio = aspect_ratio
        self.background = mean_colour(processor)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return one `Batch`."""
        batch = padded_rows(samples, self.pad_id)
        images = [image for sample in samples for image in sample.images]
        if images:
            batch["pixel_values"] = self.pixels(images)
        return batch

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Return `[I, 3, H, W]` for opened images, by the aspect-ratio rule of the recipe."""
        if self.aspect_ratio == "pad":
            images = [pad_to_square(image, self.background) for image in images]
        processed: Any = self.image_processor(images, return_tensors="pt")
        return processed["pixel_values"]


class PictureCollator(Collator):
    """Pad samples on the right and join images that are prepared already.

    A batch has the inputs of the family's model. Images or units (tiles, patches) come in row
    order, and `image_rows` `[I]` and `unit_rows` `[U]` say whose each is.
    """

    def __init__(self, processor: Any, family: Family) -> None:
        self.pad_id = processor.tokenizer.pad_token_id
        self.family = family

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return one `Batch`."""
        batch = padded_rows(samples, self.pad_id)
        encoded = [cast("PicturedConversation", sample.conversation) for sample in samples]
        if self.family.token_types:
            types = [row.token_types for row in encoded if row.token_types is not None]
            batch[self.family.token_types] = torch.from_numpy(right_padded(types, 0))
        pictures = [row.pictures for row in encoded]
        if shown := [some for some in pictures if some]:
            for name in shown[0].inputs:
                batch[name] = joined([some.inputs[name] for some in shown])
            images = torch.tensor([len(some.texts) if some else 0 for some in pictures])
            units = torch.tensor([some.units if some else 0 for some in pictures])
            rows = torch.arange(len(samples))
            batch["image_rows"] = rows.repeat_interleave(images)
            batch["unit_rows"] = rows.repeat_interleave(units)
            if self.family.counts:
                batch[self.family.counts] = images
        return batch


def padded_rows(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask`, `labels` `[B, L]` and `positions` `[B]`."""
    ids = [sample.conversation.input_ids for sample in samples]
    labels = [sample.conversation.labels for sample in samples]
    masks = [np.ones(len(row), dtype=np.int64) for row in ids]
    return {
        "input_ids": torch.from_numpy(right_padded(ids, pad_id)),
        "attention_mask": torch.from_numpy(right_padded(masks, 0)),
        "labels": torch.from_numpy(right_padded(labels, IGNORE)),
        "positions": torch.tensor([s.position for s in samples], dtype=torch.int64),
    }


def right_padded(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    """Return rows of several lengths as int64 `[B, L]`, filled on the right with `value`."""
    filled = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return filled


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return tensors one after the other, other axes filled with zeros up to the longest."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    at = 0
    for part in parts:
        whole[(slice(at, at + len(part)), *map(slice, part.shape[1:]))] = part
        at += len(part)
    return whole
