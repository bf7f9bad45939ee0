"""Which keys of a batch a model takes, and which are for the code around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

NOT_FOR_THE_MODEL = frozenset({"labels", "positions", "image_rows", "unit_rows"})


def model_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what the model's `forward` takes: everything but labels, positions and rows."""
    return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}
