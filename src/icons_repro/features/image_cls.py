"""A vision encoder's class token of every row's image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from icons_repro.data.datamodule import PassPlan
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable
from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass
from icons_repro.models.batches import Batch
from icons_repro.models.encoders import ImageEncoder

IMAGE_BATCH = 64


class ImageCls(FeaturePass):
    """Fills `rows` float32 `[N, d]`, not normalised; several images of a row are averaged."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = encoder.model

    @property
    def columns(self) -> Columns:
        """One vector a row."""
        return {"rows": ((self.encoder.dim,), "float32")}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Encode, and average by row."""
        found = self.encoder.encode(batch["pixel_values"])
        counts = torch.bincount(batch["image_rows"], minlength=len(batch["positions"]))
        sums = found.new_zeros(len(counts), found.shape[1]).index_add(0, batch["image_rows"], found)
        return {"rows": sums / counts[:, None]}


class Pictures(Dataset[tuple[int, list[Image.Image]]]):
    """Rows as a vision encoder sees them: position, opened images."""

    def __init__(self, table: RecordTable, image_root: Path) -> None:
        self.table, self.images = table, ImageFolder(image_root, table.policy)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, position: int) -> tuple[int, list[Image.Image]]:
        record = self.table[int(position)]
        return record.position, [self.images.load(name) for name in record.images]


def image_plan(
    rows: Pictures, encoder: ImageEncoder, positions: np.ndarray, workers: int = 0
) -> PassPlan:
    """Plan a pass over those of `positions` that have an image."""

    def collate(samples: list[tuple[int, list[Image.Image]]]) -> Batch:
        numbers, images = zip(*samples, strict=True)
        counts = torch.tensor([len(some) for some in images])
        return {
            "positions": torch.tensor(numbers),
            "pixel_values": encoder.pixels([image for some in images for image in some]),
            "image_rows": torch.arange(len(images)).repeat_interleave(counts),
        }

    shown = positions[rows.table.image_counts[positions] > 0]
    batches = [shown[i : i + IMAGE_BATCH] for i in range(0, len(shown), IMAGE_BATCH)]
    return PassPlan(rows.table, rows, collate, batches, workers)
