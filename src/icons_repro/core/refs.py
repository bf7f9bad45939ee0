"""What a step reads that no step made: known by its content, wherever it lies."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icons_repro.core.errors import ConfigError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import ImageIdentity
from icons_repro.core.step import placement

LONGEST = 200
"""Characters of an impossible path that an error repeats."""


@dataclass(frozen=True)
class Ref:
    """A file, a folder's files, or a name on the hub."""

    digest: str = ""
    """Of a file's content."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Of a folder's files: name to digest."""
    hub: str = ""
    """A repository on the hub, taken at its word."""
    path: str = placement("")
    """Where it is: the path, or the hub's name."""


@dataclass(frozen=True)
class ImagesRef:
    """The images of a folder that some files name."""

    digest: str
    """Of what `identity` looks at, name by name; with `none`, the folder's path."""
    folder: str = placement()
    identity: ImageIdentity = placement()


def existing(path: str | None, key: str, folder: bool = True) -> Path:
    """Return a configured folder, or file, or raise `ConfigError` naming its key."""
    if path is None:
        raise ConfigError(f"{key} is not set, and this setup has no world of its own.")
    wanted = "folder" if folder else "file"
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)
    except FileNotFoundError as error:
        raise ConfigError(f"{key}={path}: no such file or folder.") from error
    except OSError as error:
        raise ConfigError(f"{key}={path[:LONGEST]}: {error.strerror}; name a {wanted}.") from error
    if is_folder is not folder:
        found = "a folder" if is_folder else "no folder"
        raise ConfigError(f"{key}={path} is {found}; name a {wanted}.")
    return Path(path)


def file_ref(path: Path, index: Path) -> Ref:
    """Return a file by its content; `index` remembers digests (`file_fingerprint`)."""
    return Ref(digest=file_fingerprint(path, index), path=str(path.absolute()))


def folder_ref(folder: Path, index: Path, pattern: str = "*") -> Ref:
    """Return the files of a folder, not of those below it, by their contents."""
    files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    digests = {path.name: file_fingerprint(path, index) for path in files}
    return Ref(files=digests, path=str(folder.absolute()))


def source_ref(name: str, index: Path) -> Ref:
    """Return a checkpoint: a file, a folder, or else a name on the hub."""
    path = Path(name)
    if path.is_file():
        return file_ref(path, index)
    return folder_ref(path, index) if path.is_dir() else Ref(hub=name, path=name)
