"""The base model that a config names, as a step."""

from __future__ import annotations

from pathlib import Path

from icons_repro.core.errors import ConfigError
from icons_repro.core.refs import source_ref
from icons_repro.core.settings import ModelSettings
from icons_repro.models.stage import AssembledBase, Base, FolderBase
from icons_repro.tiny.stage import tiny_base

PARTS = {"folder": ("folder",), "assembled": ("language", "vision", "projector")}
"""What each kind of base is made of, by key."""


def base_of(settings: ModelSettings, index: Path) -> Base:
    """Return the base: the tiny one, a folder, or one put together from its parts.

    `index` remembers digests of files. Raises `ConfigError`, naming the key, for a part that is not
    set or not there.
    """
    if settings.kind == "tiny":
        return tiny_base(settings, index)
    names = {part: getattr(settings, part) for part in PARTS[settings.kind]}
    unset = [part for part, name in names.items() if name is None]
    if unset:
        raise ConfigError(f"model.{unset[0]} is not set, and model.kind={settings.kind} needs it.")
    refs = {part: source_ref(str(name), index) for part, name in names.items()}
    if settings.kind == "folder":
        return FolderBase(**refs, template=settings.template, images=settings.images or {})
    if settings.template is None:
        raise ConfigError("model.template is not set: v1 for Vicuna, llama3 or qwen.")
    return AssembledBase(**refs, template=settings.template)
