"""The same bits in every run, on a GPU too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from icons_repro.core.settings import TrainerSettings

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REFUSED = re.compile(r"deterministic implementation|use_deterministic_algorithms")


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Hold torch to algorithms without atomics; an operation that has none raises `RuntimeError`.

    On an H200 the default backward pass of attention gave a 7B model's gradients other bits in
    each run, 2% apart. Memory that torch allocates is not filled first: no result here reads what
    nobody wrote.
    """
    import torch

    os.environ.setdefault(WORKSPACE, ":4096:8")  # torch insists on it; one stream needs no more
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    memory.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warn)
        memory.fill_uninitialized_memory = filled


def same_bits(trainer: TrainerSettings) -> AbstractContextManager[None]:
    """Return what a training runs in: the above where it is on a GPU, unless told otherwise."""
    held = trainer.device == "cuda" and trainer.deterministic
    return deterministic_algorithms() if held else nullcontext()


def is_refused(error: BaseException) -> bool:
    """Say whether torch raised an error since an operation has no deterministic algorithm."""
    return isinstance(error, RuntimeError) and bool(_REFUSED.search(str(error)))
