"""Lightning's Trainer as every loop here wants it."""

from __future__ import annotations

from typing import Any

import lightning as L

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}
"""Metrics, resume points and the order of rows are the program's own."""


def quiet_trainer(**how: Any) -> L.Trainer:
    """Return a Trainer that writes nothing and reorders nothing; `how` as `L.Trainer` takes it."""
    return L.Trainer(**(QUIET | how))
