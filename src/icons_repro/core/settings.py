"""The settings of each stage, typed. `conf/` gives their values; Hydra checks them against these.

They live here, apart from the code they steer, so that reading a config imports no heavy package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSettings:
    """How rows become tensors."""

    max_length: int = 2048
    """Tokens of a sample after image expansion."""
    aspect_ratio: Literal["pad", "square"] = "pad"
    image_first: bool = True
    """Move the image tag to the front of its turn, as LLaVA-1.5 does."""
    num_workers: int = 0


@dataclass(frozen=True)
class RecordPolicy:
    """What to check in each row, and what to do with a row that fails."""

    on_bad_row: Literal["error", "skip"] = "error"
    """`error` stops at the first bad row; `skip` keeps its place, lists and counts it."""
    check_images: Literal["none", "exists", "decode"] = "exists"
    """`decode` opens every image; `exists` only looks for the file."""


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's shape. LLaVA-1.5 uses rank 128, alpha 256, dropout 0.05."""

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05


@dataclass(frozen=True)
class TrainSettings:
    """A training recipe. The defaults are LLaVA-1.5's for LoRA (METHODS: scripts/v1_5)."""

    epochs: int = 1
    steps: Literal["same_epochs", "same_steps"] = "same_epochs"
    """`same_epochs` passes over the subset; `same_steps` takes as many steps as the full pool."""
    batch_size: int = 128
    """Global batch, over all devices and accumulated micro-batches."""
    micro_batch: int = 16
    """Rows on one device at once."""
    learning_rate: float = 2e-4
    projector_learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup_ratio: float = 0.03
    """Share of the steps with a linearly rising rate, before the cosine."""
    max_grad_norm: float = 1.0
    group_by_length: bool = True
    gradient_checkpointing: bool = False
    checkpoint_every_steps: int = 500
    """Steps between resume points; a run shorter than this has none."""


@dataclass(frozen=True)
class TrainerSettings:
    """Where training runs; handed to Lightning's Trainer."""

    accelerator: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    model_dtype: str = "float32"
    """Type of the frozen base weights; the adapter is float32 always."""
