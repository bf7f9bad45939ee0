"""From a selector's config to the selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate

from icons_repro.core.errors import ConfigError


def make_selector(config: Mapping[str, Any]) -> Any:
    """Instantiate a selector from its config; raise `ConfigError` for arguments it lacks."""
    try:
        return instantiate(config)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"selector {config.get('_target_')}: {cause}") from error
