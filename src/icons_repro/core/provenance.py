"""What made an artifact: versions, commit, files."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from icons_repro.core.claims import Heart, claimed
from icons_repro.core.files import check_regular, content_hash, read_json, write_json

PACKAGES = ("icons-repro", "torch", "transformers", "peft", "lightning", "numpy", "lmms-eval")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that shape results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def git_commit() -> str:
    """Return the commit of this source tree, with `-dirty` if it has changes, or "unknown".

    An installed copy may lie inside a repository that is not ours; that one's commit says nothing.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(
        ["git", *words], cwd=here, capture_output=True, text=True, check=True
    ).stdout


def provenance() -> dict[str, Any]:
    """Return when, where and with what something was made."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "commit": git_commit(),
        "versions": versions(),
    }


def file_fingerprint(path: Path, index: Path) -> str:
    """Return a BLAKE2b of the file's content, remembered in the JSON file `index`.

    The memory is keyed by path, size and modification time, so that a large file is read once. A
    damaged index is begun anew. Raises `DataError` for what is no regular file.
    """
    stat = check_regular(path)
    name = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    found = _known(index).get(name)
    if isinstance(found, str):
        return found
    digest = content_hash(path)
    _remember(index, name, digest)
    return digest


def _known(index: Path) -> dict[str, str]:
    found = read_json(index)
    return found if isinstance(found, dict) else {}


def _remember(index: Path, name: str, digest: str) -> None:
    """Add an entry, with all that others have added meanwhile: one writer at a time."""
    index.parent.mkdir(parents=True, exist_ok=True)
    owner = Heart.of(index.parent / "workers").owner
    with claimed(index.with_suffix(".claim"), owner, lambda _: None, lambda: False, poll=0.02):
        write_json(index, _known(index) | {name: digest})
