"""Records and images, sample by sample and then in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import LlavaProcessor

from icons_repro.data.conversation import ConversationEncoder, EncodedConversation
from icons_repro.data.images import AspectRatio, ImageFolder, pad_to_square
from icons_repro.data.records import RecordTable
from icons_repro.models.batches import IGNORE, Batch


@dataclass(frozen=True)
class Sample:
    """One encoded row and its opened images."""

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
        return Sample(record.position, self.encoder.encode(record), images)


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
        length = max(len(s.conversation.input_ids) for s in samples)
        input_ids = np.full((len(samples), length), self.pad_id, dtype=np.int64)
        labels = np.full((len(samples), length), IGNORE, dtype=np.int64)
        attention_mask = np.zeros((len(samples), length), dtype=np.int64)
        for row, sample in enumerate(samples):
            n = len(sample.conversation.input_ids)
            input_ids[row, :n] = sample.conversation.input_ids
            labels[row, :n] = sample.conversation.labels
            attention_mask[row, :n] = 1
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
            "positions": torch.tensor([s.position for s in samples], dtype=torch.int64),
        }
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
