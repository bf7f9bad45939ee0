"""Other installed packages that add selectors, features and benchmarks to this one.

A package names a module of its own in an entry point, and is found wherever it is installed:

    [project.entry-points."icons_repro.plugins"]
    mine = "my_package"

    my_package/conf/     joins the config tree: selector/NAME.yaml, benchmarks/NAME.yaml, ...
    my_package/tasks/    lmms-eval tasks that those benchmarks name
    my_package itself    is imported when a feature is asked for that is not ours, and then
                         registers its own (`features/extra.py`)

Looking for the folders imports nothing of a plugin but the packages that its module lies in.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from icons_repro.core.errors import ConfigError

GROUP = "icons_repro.plugins"
CONF = Path(__file__).parents[1] / "conf"
"""The config tree: a link to the clone's `conf/`, and its files in an installed package."""


@cache
def installed() -> tuple[EntryPoint, ...]:
    """Return the plugins of this environment, by name."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def folders(name: str) -> dict[str, Path]:
    """Return the folders called `name` that plugins bring, by the plugin's name.

    Raises `ConfigError` for a plugin whose module is not there.
    """
    found = {}
    for entry in installed():
        for place in _places(entry):
            if (folder := Path(place) / name).is_dir():
                found[entry.name] = folder
    return found


def _places(entry: EntryPoint) -> list[str]:
    """Return the folders of a plugin's package; none for a single file."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except Exception as error:  # whatever a package does when it is imported
        raise _broken(entry, error) from error
    if spec is None:
        raise _broken(entry, ModuleNotFoundError(f"no module {entry.module}"))
    return list(spec.submodule_search_locations or [])


@cache
def load() -> None:
    """Import all plugins, once. Raises `ConfigError` naming the one that cannot be imported."""
    for entry in installed():
        try:
            importlib.import_module(entry.module)
        except Exception as error:  # whatever a plugin does when it is imported
            raise _broken(entry, error) from error


def _broken(entry: EntryPoint, error: Exception) -> ConfigError:
    package = entry.dist.name if entry.dist else entry.module
    return ConfigError(
        f"the plugin {entry.name} of the installed package {package} cannot be used: "
        f"{type(error).__name__}: {error}. Mend or uninstall {package}."
    )
