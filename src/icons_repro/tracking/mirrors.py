"""Where a run's numbers are shown besides its own files, and whether that can be had here."""

from __future__ import annotations

from importlib.util import find_spec

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import LoggerSettings
from icons_repro.tracking.about import About, Mirror

NEEDS: dict[str, tuple[tuple[tuple[str, ...], ...], str]] = {
    "wandb": ((("wandb",),), "wandb"),
    "tensorboard": ((("tensorboard", "tensorboardX"),), "'icons-repro[tensorboard]'"),
    "mlflow": ((("mlflow",), ("sqlalchemy",), ("alembic",)), "'icons-repro[mlflow]'"),
    "csv": ((), ""),
}
"""Of each logger: the packages that it needs, any one of each group, and what pip installs."""


def chosen(settings: LoggerSettings) -> list[str]:
    """Return the loggers that a config switches on."""
    return [name for name in NEEDS if getattr(settings, name)]


def check_loggers(settings: LoggerSettings) -> None:
    """Raise `ConfigError` for a logger whose package is not installed."""
    for name in chosen(settings):
        groups, install = NEEDS[name]
        for packages in groups:
            if not any(find_spec(package) for package in packages):
                raise ConfigError(
                    f"logger={name} needs {packages[0]}, which is not installed: "
                    f"pip install {install}"
                )


def open_mirrors(about: About, settings: LoggerSettings) -> list[Mirror]:
    """Start every logger that the config switches on."""
    mirrors: list[Mirror] = []
    for name in chosen(settings):
        if name == "wandb":
            from icons_repro.tracking.wandb import WandbRun

            mirrors.append(WandbRun(about, settings))
        else:
            from icons_repro.tracking.lightning import LightningMirror

            mirrors.append(LightningMirror(name, about, settings))
    return mirrors
