"""Processes that read rows ahead, and how their batches come back where shared memory is small.

PyTorch's workers put batches into /dev/shm. Where it is full, as the 64 MB of a container are soon,
the batch is lost, and the loop waits for it for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset

from icons_repro.core.machine import SHARED, cores
from icons_repro.core.sockets import keep_sockets_short

T = TypeVar("T")


def batch_loader(
    dataset: Dataset[Any],
    batches: Iterable[Sequence[int]],
    collate: Callable[[list[Any]], T],
    workers: int,
) -> DataLoader[T]:
    """Return a loader of the batches in their order.

    `workers` processes read ahead, but no more than there are cores; 0 is this process alone.
    """
    workers = min(workers, cores())
    if workers:
        keep_sockets_short()
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=spare_shared_memory if workers else None,
    )


def spare_shared_memory(worker: int) -> None:
    """Let this process send tensors through its pipe where shared memory has no room for them."""
    ForkingPickler.register(torch.Tensor, _reduced)


def has_room(size: int) -> bool:
    """Whether half of the shared memory stays free beside so many bytes: NCCL needs some, too."""
    try:
        found = os.statvfs(SHARED)
    except OSError:  # no Linux: PyTorch keeps it elsewhere
        return True
    return found.f_frsize * (found.f_bavail - found.f_blocks / 2) > size


def _reduced(tensor: torch.Tensor) -> Any:
    """Return what a pickle of a tensor is made of: a place in shared memory, or its bytes."""
    if has_room(tensor.nbytes):
        with suppress(RuntimeError):  # another process has taken the room since
            tensor.share_memory_()
    if tensor.is_shared():
        return reduce_tensor(tensor)
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return _restored, (data, tensor.dtype, tuple(tensor.shape))


def _restored(data: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(data).view(dtype).reshape(shape)
