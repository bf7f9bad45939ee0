"""`hydra/launcher=engine`, and plugins' config folders: Hydra looks in this namespace alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class EngineLauncher(Launcher):
    """Runs all jobs of a sweep as one graph of steps, each step once."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what composes the jobs."""
        self.context, self.config = hydra_context, config
        self.composing = compose_once_for_both(hydra_context.config_loader)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Compute all jobs; each returns its relative performance, or raises why it failed."""
        from icons_repro.launcher import launch

        self.composing.close()
        return launch(self.context, self.config, job_overrides, initial_job_idx)


def compose_once_for_both(loader: ConfigLoader) -> Any:
    """Let Hydra's check of a sweep and the engine share a composition: it takes most of a cached
    job's time.

    The first asker's config is kept for the second, whose own it is then. Returns the bar that
    counts them.
    """
    from icons_repro.core.progress import bar

    counted = bar("composing the jobs", unit=" jobs")
    compose = loader.load_sweep_config
    kept: dict[tuple[str, ...], DictConfig] = {}

    def composed(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key in kept:
            return kept.pop(key)
        try:
            kept[key] = compose(master_config, sweep_overrides)
        except BaseException:
            counted.close()
            raise
        counted.update()
        return kept[key]

    loader.load_sweep_config = composed  # type: ignore[method-assign]
    return counted


class PluginConfigs(SearchPathPlugin):
    """Appends the `conf` folders of installed plugins to this program's config tree."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave other programs of this environment that use Hydra as they are."""
        from icons_repro.core import plugins

        mains = [Path(part.path.removeprefix("file://")) for part in search_path.get_path()]
        if plugins.CONF.resolve() in [path.resolve() for path in mains]:
            for name, folder in plugins.folders("conf").items():
                search_path.append(f"plugin {name}", f"file://{folder}")


ConfigStore.instance().store(
    group="hydra/launcher",
    name="engine",
    node={"_target_": "hydra_plugins.icons_engine.EngineLauncher"},
    provider="icons_repro",
)
