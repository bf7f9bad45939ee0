"""What a machine lacks, said in one line: memory for the work, room on a disk, leave to write."""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from icons_repro.core.deterministic import is_refused
from icons_repro.core.step import Step

_NO_MEMORY = re.compile(
    r"out of memory"  # CUDA, HIP, MPS: "CUDA out of memory", "CUDA error: out of memory"
    r"|(CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_(ALLOC_FAILED|\w*ALLOCATION_FAILED)"
    r"|CUFFT_ALLOC_FAILED"
    r"|can't allocate memory|not enough memory",  # the CPU's allocator
    re.IGNORECASE,
)
_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded"
    r"|Not enough free space to write|\d+ requested and \d+ written"  # numpy
    r"|PytorchStreamWriter failed writing|inline_container.*(failed|unexpected pos)",  # torch.save
    re.IGNORECASE | re.DOTALL,
)
SMALLER = {
    "warmup": "warmup.train.gradient_checkpointing=true, or a smaller warmup.train.micro_batch",
    "finetune": "finetune.gradient_checkpointing=true, or a smaller finetune.micro_batch",
    "pretrain": "a smaller pretrain.train.micro_batch",
    "extract": "a smaller gradients.token_budget, or model_dtype=bfloat16",
    "features": "a smaller features.token_budget; for Self-Filter's training, "
    "features.self_filter.train.gradient_checkpointing=true",
    "select": "resources.select={gpus: 0}, which clusters on the CPU",
    "evaluate": "a smaller benchmarks.batch_size",
}
"""What makes each kind of work need less memory, where something does."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory ran out, on a device or on the CPU.

    PyTorch has a class for its own allocator alone; CUDA and the libraries that allocate for
    themselves (cuBLAS, cuDNN and their kin) say it in words.
    """
    torch = sys.modules.get("torch")  # what is not imported has raised nothing
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def is_disk_full(error: BaseException) -> bool:
    """Say whether an exception means that a disk has no room, whichever library wrote."""
    return bool(_NO_ROOM.search(str(error)))


def keep_traceback(path: Path) -> None:
    """Write the traceback of the error that is being handled, unless the disk does not take it."""
    with suppress(OSError):  # a full disk may be the error itself
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())


def in_one_line(error: BaseException, step: Step) -> str:
    """Say what went wrong, and if the machine lacked something, what to do."""
    said = f"({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    if is_out_of_memory(error):
        remedy = SMALLER.get(step.group, "a larger machine")
        return f"not enough memory for it: take {remedy}, or a larger device {said}"
    if is_refused(error):
        return (
            f"an operation has no deterministic algorithm: set trainer.deterministic=false {said}"
        )
    if is_disk_full(error):
        return f"a disk is full: free some space and run it again, it goes on {said}"
    if isinstance(error, PermissionError):
        return (
            "this user may not do it: people who share a cache set `umask 002`, and once `chmod -R "
            f"g+w` what is there ({error})"
        )
    return f"{type(error).__name__}: {error}"
