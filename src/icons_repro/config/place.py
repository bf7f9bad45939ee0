"""What a run's folder is called: a hash of what changes its result, and names without a way out."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath

from omegaconf import DictConfig, OmegaConf

from icons_repro.config.trees import as_dict
from icons_repro.core.errors import ConfigError

NOT_RESULTS = (
    *("plan", "verify", "logger", "paths", "stages", "hydra", "executor", "workers", "resources"),
    "leakage",
)
"""Keys that do not change what a run finds; they stay out of its directory's name."""
FOLDER_OF_RUNS = "the output folder's runs/"
RECORD = ".hydra"
"""Hydra's record in a run's folder of the command that made it."""
LONGEST_NAME = 100


def config_hash(*, _root_: DictConfig) -> str:
    """Hash what changes a run's result; used by `${config_hash:}` in the run directory's name.

    Hydra makes that directory before the config is typed, so what its path is made of is checked
    here: raises `ConfigError`.
    """
    _check_place(_root_)
    kept = {k: v for k, v in as_dict(_root_).items() if k not in NOT_RESULTS}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_place(root: DictConfig) -> None:
    """Refuse an empty output folder, and names that would lead out of it."""
    if not str(OmegaConf.select(root, "paths.output") or "").strip():
        raise ConfigError(
            "paths.output is empty: unset ICONS_OUTPUT, or name the folder that results go to."
        )
    for key in ("names.setup", "names.experiment", "names.selector"):
        name = str(OmegaConf.select(root, key))
        path = PurePath(name)
        if not name.isprintable() or path.is_absolute() or not {".", ".."}.isdisjoint(path.parts):
            raise ConfigError(f"{key}={name!r} is no name for a folder below {FOLDER_OF_RUNS}.")
        if not name.strip() or len(name) > LONGEST_NAME:
            raise ConfigError(f"{key} must be a name of 1 to {LONGEST_NAME} characters.")
    for key in ("budget", "seed"):
        value = OmegaConf.select(root, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}={value!r} is no number.")


def only_looks(config: DictConfig) -> bool:
    """Whether a command only says what would happen, and so is no record of what is in a folder.

    The config is not typed yet: what is no choice at all is told later, and is none here.
    """
    plan, stages = (
        OmegaConf.select(config, key, throw_on_resolution_failure=False)
        for key in ("plan", "stages")
    )
    return plan is True or stages == ["preflight"]


def record(*, _root_: DictConfig) -> str | None:
    """Return where Hydra records the command: nowhere if another one made what is there."""
    return None if only_looks(_root_) else RECORD


def setup_name(chosen: str, *, _root_: DictConfig) -> str:
    """Return the setup's name, for folders: a foreign pool is not in the tiny world's."""
    foreign = chosen == "tiny" and OmegaConf.select(_root_, "data.world") is None
    return "own" if foreign else chosen
