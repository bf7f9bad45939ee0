"""This machine's devices: whether they can do what a trainer asks, and their memory afterwards."""

from __future__ import annotations

import gc
import sys

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import TrainerSettings


def require_device(trainer: TrainerSettings, devices: int = 1) -> None:
    """Raise `ConfigError` if this process lacks the GPUs, or their driver the number type.

    Args:
        trainer: what is asked for; anything but GPUs is there.
        devices: how many of them this process's work takes.
    """
    if trainer.device != "cuda":
        return
    import torch  # for GPUs alone

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < devices:
        raise ConfigError(
            f"this node has {found} of the {devices} GPU(s) that trainer.accelerator="
            f"{trainer.accelerator} and trainer.devices={trainer.devices} ask for: take another "
            "node, set trainer.devices, or trainer=cpu. What is done is kept."
        )
    if problem := bfloat16_problem(trainer):
        raise ConfigError(f"{problem}.")


def bfloat16_problem(trainer: TrainerSettings) -> str | None:
    """Say that bfloat16 is asked of GPUs that do not compute in it; None where that is no matter.

    torch emulates the type on older ones, in float32 and slower than float32 itself.
    """
    asked = [
        f"trainer.{name}={value}"
        for name, value in (("precision", trainer.precision), ("model_dtype", trainer.model_dtype))
        if "bf16" in value or "bfloat16" in value
    ]
    if not asked:
        return None
    import torch

    if torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return (
        f"{torch.cuda.get_device_name()} or its driver has no bfloat16 ({' and '.join(asked)}): "
        "take a GPU of compute capability 8.0 or more, or trainer.precision=32-true "
        "trainer.model_dtype=float32"
    )


def give_memory_back() -> None:
    """Leave a GPU's memory to what comes next, which may be another process on the same GPU.

    torch keeps what it has freed, and models are freed late where they are in reference cycles.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
