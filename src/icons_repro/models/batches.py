"""What a batch holds, which row each image belongs to, and how to cut a batch into smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

IGNORE = -100
"""The label of a token that is not supervised."""

Batch = Mapping[str, torch.Tensor]
"""`input_ids`, `attention_mask`, `labels` int64 `[B, L]` padded on the right, `positions` int64
`[B]`, and `pixel_values` float `[I, 3, H, W]` where any row has an image (in row order).

Other families than LLaVA-1.5 have more (`PictureCollator`): inputs with tokens, rows, images or
units in front, and `image_rows` `[I]` and `unit_rows` `[U]`, which say whose each is."""

BY_TOKEN = ("input_ids", "attention_mask", "labels", "mm_token_type_ids", "token_type_ids")
BY_IMAGE = frozenset(
    {
        *("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw"),
        *("image_rows", "unit_rows"),
    }
)
"""Images or units are in front of these, rows in front of all others."""
NOT_FOR_THE_MODEL = frozenset({"labels", "positions", "image_rows", "unit_rows"})


def model_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the model's `forward` takes: everything but labels, positions and rows."""
    return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}


def answer_counts(batch: Batch) -> torch.Tensor:
    """Return the number of supervised targets of each row `[B]`, after the shift by one."""
    return (batch["labels"][:, 1:] != IGNORE).sum(dim=1)


def image_rows(batch: Batch, image_token_id: int | None) -> torch.Tensor | None:
    """Return the row of each image, int64 `[I]`; None for a batch without images.

    Where the batch does not say, every image takes the same number of placeholder tokens
    (LLaVA-1.5), so a row's images are its placeholders divided by that number.

    Raises:
        ValueError: the placeholders do not divide into the images.
    """
    if "image_rows" in batch:
        return batch["image_rows"]
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


def unit_rows(batch: Batch, image_token_id: int | None) -> torch.Tensor | None:
    """Return the row of each unit that the vision tower takes, int64 `[U]`: images, tiles, patches.

    None for a batch without images.
    """
    return batch.get("unit_rows", image_rows(batch, image_token_id))


def take_rows(
    batch: Batch, rows: Sequence[int], image_token_id: int | None
) -> dict[str, torch.Tensor]:
    """Return the given rows as a batch of their own, without padding that none of them needs."""
    index = torch.as_tensor(list(rows), device=batch["input_ids"].device)
    taken = {n: value.index_select(0, index) for n, value in batch.items() if n not in BY_IMAGE}
    width = max(1, int(taken["attention_mask"].sum(dim=1).max()))
    for name in BY_TOKEN:
        if name in taken:
            taken[name] = taken[name][:, :width]
    images, units = image_rows(batch, image_token_id), unit_rows(batch, image_token_id)
    if images is not None and units is not None and bool(torch.isin(images, index).any()):
        by_length = {len(owner): _places(owner, rows) for owner in (units, images)}
        for name in batch.keys() & BY_IMAGE:
            taken[name] = batch[name][by_length[len(batch[name])]]
        _renumber(taken, rows)
    return taken


def _places(owner: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Return where the rows' own entries are, row by row, among entries owned by `owner`."""
    return torch.cat([torch.nonzero(owner == row).flatten() for row in rows])


def _renumber(taken: dict[str, torch.Tensor], rows: Sequence[int]) -> None:
    """Let owners be numbers of the new batch's rows."""
    for name in ("image_rows", "unit_rows"):
        if name in taken:
            counts = torch.stack([(taken[name] == row).sum() for row in rows])
            numbers = torch.arange(len(rows), device=counts.device)
            taken[name] = numbers.repeat_interleave(counts)
