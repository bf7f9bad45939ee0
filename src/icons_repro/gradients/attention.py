"""Which kernel computes attention, as a name that a model can be put under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from icons_repro.core.deterministic import deterministic_algorithms
from icons_repro.models.answers import base_model

BACKENDS = {
    "sdpa:flash": SDPBackend.FLASH_ATTENTION,
    "sdpa:cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa:efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa:math": SDPBackend.MATH,
}
"""PyTorch's fused attention held to one of its kernels; plain "sdpa" lets PyTorch choose by shape
and mask, so that a sample alone may get another kernel than the same sample in a batch."""


@dataclass(frozen=True)
class AttentionTrial:
    """What the self-test saw of one kernel."""

    kernel: str
    """`sdpa`, a key of `BACKENDS`, or `eager`."""
    difference: float | None = None
    """Largest |g - g'| / |g| between a sample's gradient in a padded batch, g, and alone, g'."""
    seconds: float | None = None
    """For the batch's gradients."""
    repeatable: bool | None = None
    """Whether the batch gave the same bits twice."""
    problem: str | None = None
    """Why it could not run here."""
    deterministic: bool = False
    """Whether torch was held to deterministic algorithms."""


@dataclass(frozen=True)
class AttentionChoice:
    """The kernel for a gradient store, with the evidence."""

    kernel: str
    dtype: str
    """Type that attention computes in."""
    device: str
    trials: tuple[AttentionTrial, ...] = ()
    deterministic: bool = False
    """Whether torch is held to deterministic algorithms meanwhile."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "trials": [asdict(trial) for trial in self.trials]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> AttentionChoice:
        """Read what `to_json` gave."""
        trials = tuple(AttentionTrial(**trial) for trial in raw["trials"])
        return cls(**{**raw, "trials": trials})

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Let `model` attend by this kernel, and afterwards as before.

        Raises `RuntimeError` in the forward pass where the kernel cannot do what is asked of it.
        """
        base: Any = base_model(model)
        wanted, before = self.kernel.split(":")[0], base.config._attn_implementation
        backend = BACKENDS.get(self.kernel)
        if before != wanted:
            base.set_attn_implementation(wanted)
        held = deterministic_algorithms() if self.deterministic else nullcontext()
        try:
            with held, nullcontext() if backend is None else sdpa_kernel(backend):
                yield
        finally:
            if before != wanted:
                base.set_attn_implementation(before)
