"""What made an artifact: versions, commit, files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from icons_repro.core.files import check_regular

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
    """Return the commit of this source tree, with `-dirty` if it has changes, or "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


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

    The memory is keyed by path, size and modification time, so that a large file is read once.
    Raises `DataError` for what is no regular file.
    """
    stat = check_regular(path)
    name = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    known: dict[str, str] = json.loads(index.read_text()) if index.is_file() else {}
    if name not in known:
        with path.open("rb") as file:
            known[name] = hashlib.file_digest(
                file, lambda: hashlib.blake2b(digest_size=16)
            ).hexdigest()
        index.parent.mkdir(parents=True, exist_ok=True)
        part = index.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(known, indent=0))
        part.replace(index)
    return known[name]
