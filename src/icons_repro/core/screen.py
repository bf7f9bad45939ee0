"""What reaches the screen: our messages and progress, not what nobody can act on."""

from __future__ import annotations

import logging
import warnings
from functools import cache

HARMLESS = (
    # message, and why the reader can do nothing about it
    (r".*is_gradient_checkpointing.* is deprecated", "Lightning asks transformers, not us"),
    (r".*isinstance\(treespec, LeafSpec\).*", "Lightning's use of torch"),
    (r".*does not have many workers.*", "num_workers is a setting; on two cores 0 is right"),
    (r".*dataloader is not resumable.*", "FixedBatches starts where the checkpoint ended"),
    (r"Checkpoint directory .* exists and is not empty", "we resume in that directory"),
    (r".*LoRA weights .* embedding layers.*", "the adapter has no embedding layers"),
)
CHATTY = ("lightning.pytorch", "lightning.fabric", "transformers", "httpx", "datasets", "filelock")


@cache
def quiet_third_parties() -> None:
    """Silence the messages listed here, once; anything else still shows."""
    for message, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
