"""What a batch holds, which row each image belongs to, and how to cut a batch into smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

IGNORE = -100
"""The label of a token that is not supervised."""

Batch = Mapping[str, torch.Tensor]
"""`input_ids`, `attention_mask`, `labels` int64 `[B, L]` padded on the right, `positions` int64
`[B]`, and `pixel_values` float `[I, 3, H, W]` where any row has an image (in row order)."""

NOT_FOR_THE_MODEL = frozenset({"labels", "positions"})


def model_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the model's `forward` takes: everything but labels and positions."""
    return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}


def answer_counts(batch: Batch) -> torch.Tensor:
    """Return the number of supervised targets of each row `[B]`, after the shift by one."""
    return (batch["labels"][:, 1:] != IGNORE).sum(dim=1)


def image_rows(batch: Batch, image_token_id: int | None) -> torch.Tensor | None:
    """Return the row of each image, int64 `[I]`; None for a batch without images.

    Every image takes the same number of placeholder tokens (LLaVA-1.5), so a row's images are its
    placeholders divided by that number.

    Raises:
        ValueError: the placeholders do not divide into the images.
    """
    pixels = batch.get("pixel_values")
    if pixels is None or image_token_id is None:
        return None
    placeholders = (batch["input_ids"] == image_token_id).sum(dim=1)
    per_image, rest = divmod(int(placeholders.sum()), pixels.shape[0])
    if rest or per_image == 0 or bool((placeholders % per_image).any()):
        raise ValueError(
            f"{int(placeholders.sum())} image tokens do not fit {pixels.shape[0]} images"
        )
    rows = torch.arange(len(placeholders), device=placeholders.device)
    return rows.repeat_interleave(placeholders // per_image)


def take_rows(batch: Batch, rows: Sequence[int], image_token_id: int | None) -> dict[str, Any]:
    """Return the given rows as a batch of their own, without padding that none of them needs."""
    index = torch.as_tensor(list(rows), device=batch["input_ids"].device)
    of_image = image_rows(batch, image_token_id)
    taken = {
        name: value.index_select(0, index)
        for name, value in batch.items()
        if name != "pixel_values"
    }
    width = max(1, int(taken["attention_mask"].sum(dim=1).max()))
    for name in ("input_ids", "attention_mask", "labels"):
        taken[name] = taken[name][:, :width]
    if of_image is not None:
        images = [i for row in rows for i in torch.nonzero(of_image == row).flatten().tolist()]
        if images:
            taken["pixel_values"] = batch["pixel_values"][images]
    return taken
