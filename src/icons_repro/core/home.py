"""Where other people's libraries keep their files if the home folder cannot be written.

A container that runs as another user has no home, and clusters mount homes and stores of models
read-only. Then benchmarks could not be loaded, which shows after all training is done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

HOME = "home"
"""The folder of a cache."""
AT_HOME = {
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
    "WANDB_DATA_DIR": "wandb/data",
}
WITHOUT_HUB = {"HF_HOME": "huggingface"}
BESIDE_HUB = {
    "HF_DATASETS_CACHE": "huggingface/datasets",
    "HF_MODULES_CACHE": "huggingface/modules",
}
"""What is written even where models and datasets are read from a store that somebody filled."""


def settle(root: Path) -> Mapping[str, str]:
    """Set the variables of what cannot be written to folders below `root`, and return them.

    What the environment says already stays. Call it before those libraries are imported.
    """
    home = Path("~").expanduser()
    given = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    hub = Path(os.environ.get("HF_HOME") or Path(given) / "huggingface").expanduser()
    wanted = {} if may_write(home) else dict(AT_HOME)
    if not may_write(hub):
        wanted |= BESIDE_HUB if os.path.isdir(hub) else WITHOUT_HUB
    made = {name: str(root / folder) for name, folder in wanted.items() if name not in os.environ}
    os.environ.update(made)
    return made


def may_write(folder: Path) -> bool:
    """Whether this process may write into a folder, or make it."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return os.access(there, os.W_OK | os.X_OK)
