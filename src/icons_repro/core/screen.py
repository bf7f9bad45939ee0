"""What reaches the screen: our messages and progress, not what nobody can act on."""

from __future__ import annotations

import logging
import warnings

HARMLESS = (
    # message, and why the reader can do nothing about it
    (r".*is_gradient_checkpointing.* is deprecated", "Lightning asks transformers, not us"),
    (r".*isinstance\(treespec, LeafSpec\).*", "Lightning's use of torch"),
    (r".*does not have many workers.*", "num_workers is a setting; on two cores 0 is right"),
    (r".*dataloader is not resumable.*", "FixedBatches starts where the checkpoint ended"),
    (r".*custom batch sampler `FixedBatches`.*", "FixedBatches leaves no row out"),
    (r"Checkpoint directory .* exists and is not empty", "we resume in that directory"),
    (r".*LoRA weights .* embedding layers.*", "the adapter has no embedding layers"),
)
CHATTY = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch",
    "lightning.fabric",
    "transformers",
    "httpx",
    "datasets",
    "filelock",
    "faiss.loader",
)


def quiet_third_parties() -> None:
    """Silence the messages listed here; anything else still shows.

    Call it again after a heavy import: Lightning sets its loggers' levels when it is imported.
    """
    for message, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
