"""Hydra's config trees as plain values, as YAML, and by the names of their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from icons_repro.core.typed import unknown


def as_dict(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """Return a config as plain dicts and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def yaml_of(config: DictConfig) -> str:
    """Return a config as YAML, resolved."""
    return OmegaConf.to_yaml(config, resolve=True)


def leaf_keys(config: DictConfig, prefix: str = "") -> Iterable[str]:
    """Yield the dotted names of a config's leaves."""
    stack = [(prefix, as_dict(config))]
    while stack:
        path, node = stack.pop()
        for key, value in node.items():
            if isinstance(value, dict) and value:
                stack.append((f"{path}{key}.", value))
            else:
                yield f"{path}{key}"


def explain_override(message: str, config: DictConfig) -> str:
    """Add the nearest right key to Hydra's message about a key it does not know."""
    match = re.search(r"Could not override '([^']+)'", message)
    keys = list(leaf_keys(config))
    known = keys + sorted({key.rsplit(".", 1)[0] for key in keys if "." in key})
    if not match or match[1] in known:
        return message
    return unknown(match[1], match[1], known)
