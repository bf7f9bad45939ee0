"""What a path is, asked before it is opened: opening a named pipe waits for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from icons_repro.core.errors import DataError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(mode: int) -> str | None:
    """Say in words what a `st_mode` is of; None for a regular file."""
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def check_regular(path: Path) -> os.stat_result:
    """Return a file's stat, links followed. Raises `DataError` for what is no readable file."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read {path}: {reason}.") from error
    if kind := kind_of(found.st_mode):
        raise DataError(f"cannot read {path}: it is {kind}. Give a file.")
    return found
