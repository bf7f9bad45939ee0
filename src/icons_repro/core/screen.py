"""What reaches the screen: our messages and progress, not what nobody can act on."""

from __future__ import annotations

import logging
import warnings

HARMLESS = (
    # message, and why the reader can do nothing about it
    (r"is_gradient_checkpointing.* is deprecated", "peft asks transformers, not us"),
    (r"isinstance\(treespec, LeafSpec\)", "Lightning's use of torch"),
    (r"does not have many workers", "num_workers is a setting; on two cores 0 is right"),
    (r"dataloader is not resumable", "FixedBatches starts where the checkpoint ended"),
    (r"custom batch sampler `FixedBatches`", "FixedBatches leaves no row out"),
    (r"Checkpoint directory .* exists and is not empty", "we resume in that directory"),
    (r"LoRA weights .* embedding layers", "the adapter has no embedding layers"),
    (r"The `srun` command is available", "who starts the ranks is our own choice"),
    (r"GPU available but not used", "trainer=cpu is a choice"),
    (r"`torch\.cpu\.amp\.autocast|`torch\.cuda\.amp\.", "a library's use of torch"),
)
CHATTY = (
    "lightning.pytorch.utilities.rank_zero",  # tips to install LitLogger and the like
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch",
    "lightning.fabric",
    "lightning",
    "transformers",
    "httpx",
    "datasets",
    "filelock",
    "faiss.loader",
)


def quiet_third_parties() -> None:
    """Silence the messages listed here; anything else still shows.

    Call it again after a heavy import: Lightning sets its loggers' levels when it is imported, and
    the newest filter counts.
    """
    for message, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=rf"(?s).*{message}")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
