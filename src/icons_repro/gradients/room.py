"""How many unprojected gradients fit in memory, before any is taken."""

from __future__ import annotations

import torch
from torch import nn

from icons_repro.core.errors import DataError
from icons_repro.core.machine import free_memory
from icons_repro.gradients.layout import ParameterLayout


def require_room(
    n: int, layout: ParameterLayout, memory_gb: float | None, on_device: int | None = None
) -> int:
    """Return how many unprojected rows may be held at once.

    The host holds them beside `n` directions; a device with memory of its own, of which `on_device`
    bytes may be used, holds the rows alone.

    Raises:
        DataError: the directions and one row with its working copy do not fit.
    """
    limit = free_memory() / 2 if memory_gb is None else memory_gb * 1e9
    row = layout.dim * 4
    rows = int((limit - n * row) // (3 * row))
    if rows < 1:
        raise DataError(
            f"gradients.mode=direct keeps {n} directions of {layout.dim:,} parameters: "
            f"{n * row / 1e9:.2f} GB, and {3 * row / 1e9:.2f} GB to make them; "
            f"{limit / 1e9:.2f} GB may be used. Take fewer tasks or parameters, allow more "
            "memory, or set gradients.mode=store."
        )
    if on_device is None:
        return rows
    if on_device < 3 * row:
        raise DataError(
            f"gradients.mode=direct makes rows of {layout.dim:,} parameters, {3 * row / 1e9:.2f} "
            f"GB with working copies; {on_device / 1e9:.2f} GB of the device may be used. Take "
            "fewer parameters, a larger device, or gradients.mode=store."
        )
    return min(rows, on_device // (3 * row))


def device_room(model: nn.Module, device: torch.device) -> int | None:
    """Return half of the bytes that a GPU has left beside the model; None for the CPU.

    The other half is for the activations of a batch.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    to_come = sum(p.nbytes for p in model.parameters() if p.device != device)
    return max(0, free - to_come) // 2
