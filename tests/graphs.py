"""The graph of a config, as a test would ask for it on the command line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from icons_repro.config.checks import typed
from icons_repro.config.register import register
from icons_repro.graph.graph import Graph

CONF = Path(__file__).parents[1] / "conf"


NOWHERE = Path(tempfile.gettempdir()) / f"icons-repro-tests-{os.getuid()}"
"""Where a graph that a test only looks at remembers digests of files."""


def composed(*overrides: str, output: Path | str = NOWHERE) -> DictConfig:
    """Compose a config whose run writes below `output`."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    with open_dict(config):
        config.names = {"setup": "tiny", "experiment": "test", "selector": "test"}
        config.paths = {"output": f"{output}", "cache": f"{output}/cache", "run": f"{output}/run"}
    return config


def graph(*overrides: str, output: Path | str = NOWHERE) -> Graph:
    """Return the graph of such a config."""
    return Graph(typed(composed(*overrides, output=output)))
