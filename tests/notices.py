"""What third parties say, which a user cannot act on."""

from pathlib import Path

NOTICES = ("srun", "Warning", "Tip", "litlogger", "custom batch sampler", "OMP_NUM_THREADS",
           "is_gradient_checkpointing", "GPU available", "deprecated", ".part",
           "leaked")  # fmt: skip


def noticed(said: str) -> list[str]:
    """Return the notices that are in a text."""
    return [notice for notice in NOTICES if notice in said]


def with_srun(root: Path) -> Path:
    """Make a folder with an `srun`, which Lightning remarks on where it finds one on the path."""
    fake = root / "bin" / "srun"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    return fake.parent
