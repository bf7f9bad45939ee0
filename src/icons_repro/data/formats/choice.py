"""Which sources a config names, in which formats, and what their files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.refs import Ref, existing, file_ref
from icons_repro.core.settings import (
    ImageIdentity,
    NamedSource,
    PoolSettings,
    SourceSettings,
    TargetSettings,
)
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.formats.commits import commit_of
from icons_repro.data.formats.looks import images_ref
from icons_repro.data.formats.registry import FORMATS, NO_ROWS, format_of, known_suffixes
from icons_repro.data.formats.stage import Converted
from icons_repro.data.formats.turns import ROLES

Checked = Callable[[type, Any, str], Any]
"""`config.checked_part`: settings from plain mappings, or an error naming the key."""


@dataclass(frozen=True)
class Finder:
    """Finds the files behind settings, and what their images are."""

    cache: Path
    index: Path
    """Where digests of files are remembered."""
    identity: ImageIdentity

    def spec(self, settings: NamedSource, key: str) -> SourceSpec:
        """Return the source that the settings below `key` name."""
        check_columns(settings.columns or {}, key)
        if (settings.path is None) == (settings.hub is None):
            both = "neither is" if settings.path is None else "both are"
            raise ConfigError(f"{key}: one of path and hub names the source, and {both} set.")
        if settings.hub:
            kind, files = "hub", self._dataset(settings.hub, settings.revision)
        else:
            kind, files = self._files(str(settings.path), f"{key}.path")
        found = SourceSpec(
            format=kind,
            files=files,
            name=settings.name or "",
            subset=settings.subset or "",
            split=settings.split if settings.hub else "",
            patterns=tuple(settings.files or ()) if settings.hub else (),
            columns=settings.columns or {},
            weight=settings.weight,
        )
        return self._with_images(found, settings.images, f"{key}.images")

    def _dataset(self, name: str, revision: str | None) -> Ref:
        """Return a dataset's folder by its files' contents, or one on the hub by its commit."""
        if not Path(name).is_dir():
            commit = commit_of(name, revision, self.cache / "hub.json")
            return Ref(hub=f"{name}@{commit}", path=name)
        folder = Path(name).absolute()
        files = [file for file in sorted(folder.rglob("*")) if is_data(file, folder)]
        digests = {str(f.relative_to(folder)): file_fingerprint(f, self.index) for f in files}
        return Ref(files=digests, path=str(folder))

    def _files(self, path: str, key: str) -> tuple[str, Ref]:
        """Return the format of a file, or of the files below a folder, and their contents."""
        if not Path(path).is_dir():
            file = existing(path, key, folder=False).absolute()
            if kind := format_of(file.name):
                return kind, file_ref(file, self.index)
            raise ConfigError(
                f"{key}={path}: no known format; a file ends in one of {known_suffixes()}, or give "
                "a folder of such files."
            )
        folder = Path(path).absolute()
        names = sorted(
            str(file.relative_to(folder))
            for file in folder.rglob("*")
            if format_of(file.name) and file.name not in NO_ROWS
        )
        kinds = sorted({str(format_of(name)) for name in names})
        if len(kinds) != 1:
            found = f"files of several formats ({', '.join(kinds)})" if kinds else "no such file"
            raise ConfigError(
                f"{key}={path} holds {found}; a source is one file, or a folder of files of one "
                f"format, that end in {known_suffixes()}. data.sources takes several."
            )
        digests = {name: file_fingerprint(folder / name, self.index) for name in names}
        return kinds[0], Ref(files=digests, path=str(folder))

    def _with_images(self, source: SourceSpec, images: str | None, key: str) -> SourceSpec:
        """Return the source with what the images in its folder are, if it names any there."""
        if images is None and not FORMATS[source.format].image_paths:
            return source
        folder = existing(images, key) if images else source.paths[0].parent
        look = images_ref(source, folder.absolute(), self.identity, self.cache)
        return replace(source, images=look)


def is_data(file: Path, folder: Path) -> bool:
    """Whether a file of a dataset's folder counts: hidden ones (`.git`, `.cache`) do not."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden


def check_columns(columns: Mapping[str, Any], key: str) -> None:
    """Raise `ConfigError` for a role that no column can have."""
    if unknown := sorted(set(columns) - set(ROLES)):
        raise ConfigError(f"{key}.columns.{unknown[0]}: a column can be one of {', '.join(ROLES)}.")


def converted_pool(settings: PoolSettings, cache: Path, checked: Checked) -> Converted | None:
    """Return the step that makes the pool from `data.path`, `.hub` or `.sources`; None without."""
    given = [key for key in ("world", "json", "path", "hub", "sources") if getattr(settings, key)]
    if not {"path", "hub", "sources"} & set(given):
        return None
    if len(given) > 1:
        raise ConfigError(
            f"data.{' and data.'.join(given)} are set, and each is a pool of its own: set all but "
            "one to null."
        )
    if settings.blocks:
        raise ConfigError("data.blocks are of data.json; data.sources have names of their own.")
    finder = Finder(cache, cache / "files.json", settings.image_identity)
    if settings.sources is None:
        names = [f.name for f in fields(SourceSettings)]
        alone = NamedSource(**{name: getattr(settings, name) for name in names})
        sources = [finder.spec(alone, "data")]
    else:
        sources = named_sources(settings.sources, "data.sources", finder, checked)
    return Converted(
        sources=tuple(sources),
        follow_symlinks=settings.policy.follow_symlinks,
        seed=settings.weight_seed,
    )


def converted_targets(
    settings: TargetSettings, data: PoolSettings, cache: Path, checked: Checked
) -> Converted | None:
    """Return the step that makes the targets from `targets.task_sources`; None without."""
    if settings.task_sources is None:
        return None
    if settings.folder:
        raise ConfigError(
            "targets.folder and targets.task_sources are set, and each holds the targets: set one "
            "to null."
        )
    finder = Finder(cache, cache / "files.json", data.image_identity)
    sources = named_sources(settings.task_sources, "targets.task_sources", finder, checked)
    return Converted(
        sources=tuple(sources),
        follow_symlinks=data.policy.follow_symlinks,
        seed=settings.seed,
        targets=True,
    )


def named_sources(
    entries: Sequence[Mapping[str, Any]], key: str, finder: Finder, checked: Checked
) -> list[SourceSpec]:
    """Return the sources of a list. Raises `ConfigError` for a name that is missing or twice."""
    settings = [checked(NamedSource, entry, f"{key}.{n}") for n, entry in enumerate(entries)]
    names = [entry.name for entry in settings]
    for number, name in enumerate(names):
        if not name or names.index(name) < number:
            what = f"{name!r} is there twice" if name else "has no name"
            raise ConfigError(f"{key}.{number}.name: {what}; each source has a name of its own.")
        if "/" in name:
            raise ConfigError(f"{key}.{number}.name: {name!r} has a slash; it names a file, too.")
    return [finder.spec(entry, f"{key}.{n}") for n, entry in enumerate(settings)]
