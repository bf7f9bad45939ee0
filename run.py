"""ICONS from the command line: `python run.py experiment=icons_20pct`; `--help` shows the rest."""

from __future__ import annotations

import os
import sys

try:
    from icons_repro.core.stop import stop_at_once

    if __name__ == "__main__":
        stop_at_once()  # before the imports that take time
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Run `make setup` once, or `pip install -e .` in your own environment.")

import hydra
from omegaconf import DictConfig

from icons_repro import launcher, pipeline


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> float | None:
    """Run one experiment, or one job of a sweep."""
    return pipeline.run(pipeline.Job.of(config))


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    launcher.command_line(main)
