"""Batches whose rows have positions, from whatever a caller has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from icons_repro.core.errors import DataError
from icons_repro.models.batches import Batch


class NumberedBatches:
    """Batches with `positions` and `attention_mask`, from whatever the caller has."""

    def __init__(self, data: Iterable[Batch] | torch.Tensor, batch_size: int = 8) -> None:
        self._data = data
        self._batch_size = batch_size

    def __len__(self) -> int:
        if isinstance(self._data, torch.Tensor):
            return -(-len(self._data) // self._batch_size)
        return len(self._data)  # type: ignore[arg-type]

    def rows(self) -> int:
        """Return how many rows all batches have together.

        Raises:
            DataError: the data cannot tell; the caller must say.
        """
        sized = self._data if isinstance(self._data, (torch.Tensor, list, tuple)) else None
        if isinstance(sized, torch.Tensor):
            return len(sized)
        if sized is not None:
            return sum(len(batch["input_ids"]) for batch in sized)
        dataset = getattr(self._data, "dataset", None)
        if dataset is None:
            raise DataError("how many rows are there? Pass n_rows: the batches do not tell.")
        return len(dataset)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        seen = 0
        for batch in self._plain():
            ids = batch["input_ids"]
            numbers = torch.arange(seen, seen + len(ids))
            seen += len(ids)
            yield {"attention_mask": torch.ones_like(ids), "positions": numbers, **batch}

    def _plain(self) -> Iterator[Batch]:
        if not isinstance(self._data, torch.Tensor):
            yield from self._data
            return
        for ids in self._data.split(self._batch_size):
            yield {"input_ids": ids, "labels": ids}
