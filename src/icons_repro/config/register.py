"""What Hydra is told before it composes: resolvers, and the settings' defaults."""

from __future__ import annotations

from functools import cache

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from icons_repro.config.place import config_hash, record, setup_name
from icons_repro.config.run import USED_DEVICES, RunConfig
from icons_repro.core.invocation import command
from icons_repro.core.typed import defaults_of
from icons_repro.engine.resources import Resources
from icons_repro.tiny.settings import WorldSettings


@cache
def register() -> None:
    """Tell Hydra our resolvers (`${config_hash:}`, ...) and the settings' defaults, once.

    The defaults are the config named `settings`, first in `conf/config.yaml`'s list, so that any
    key can be set on the command line and no YAML file repeats a default.
    """
    OmegaConf.register_new_resolver("config_hash", config_hash)
    OmegaConf.register_new_resolver("command", command)
    OmegaConf.register_new_resolver("setup_name", setup_name)
    OmegaConf.register_new_resolver("record", record)
    ConfigStore.instance().store(
        group="data/world", name="settings", node=defaults_of(WorldSettings)
    )
    table = {kind: defaults_of(Resources) for kind in USED_DEVICES}
    ConfigStore.instance().store(
        name="settings", node={**defaults_of(RunConfig), "resources": table}
    )
