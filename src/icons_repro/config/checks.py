"""From a composed config to a `RunConfig` in which every value has been looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from icons_repro.config.run import USED_DEVICES, RunConfig
from icons_repro.config.trees import as_dict
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import ProjectionSettings, Scale
from icons_repro.core.typed import checked_part, refuse_classes, refuse_unknown
from icons_repro.engine.resources import check_table
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.selection.resolve import build_selector


def typed(config: DictConfig) -> RunConfig:
    """Resolve and check the composed config.

    Raises `ConfigError` naming the first unknown or ill-typed key, with the nearest right one.
    """
    return checked(as_dict(config, resolve=True))


def checked(tree: Mapping[str, Any]) -> RunConfig:
    """Check a config that is plain mappings by now; see `typed`."""
    refuse_classes(tree)
    refuse_unknown(tree, RunConfig, "")
    settings: RunConfig = checked_part(RunConfig, tree, "")
    _check_parts(settings)
    return replace(settings, scale=scale_of(settings))


def scale_of(settings: RunConfig) -> Scale:
    """Return the scale that a run's numbers may be called by, whatever its config says.

    The tiny model on somebody's data is no run of the paper's, nor is a foreign pool the tiny
    world's.
    """
    if settings.data.world is not None and settings.model.kind == "tiny":
        return settings.scale
    mixed = settings.data.world is not None or settings.model.kind == "tiny"
    return "own" if mixed or settings.scale == "tiny" else settings.scale


def _check_parts(settings: RunConfig) -> None:
    """Check what other packages define: plain mappings in the config, typed where they are used."""
    projection = checked_part(ProjectionSettings, settings.projection, "projection")
    if projection.kind != "none" and projection.dim is None:
        raise ConfigError(
            f"projection.dim is not set, and projection.kind={projection.kind} needs it."
        )
    for name, entry in settings.benchmarks.tasks.items():
        named = {"name": name, **(entry or {})}
        checked_part(BenchmarkSettings, named, f"benchmarks.tasks.{name}")
    check_table(settings.resources, USED_DEVICES)
    for selector in (settings.selector, *settings.references.values()):
        build_selector(selector)
