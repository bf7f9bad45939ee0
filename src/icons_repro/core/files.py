"""Files: whole or not there, and asked what they are before they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icons_repro.core.errors import DataError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; at the end of the block that file becomes `path`.

    A reader sees the old file or the whole new one, whatever is cut off. The folder is made. If the
    block raises, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any | None:
    """Return what a JSON file holds; None if it is not there, or cut."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_json_lines(path: Path) -> Iterator[Any]:
    """Yield what the lines of a file hold; of a file that is not there, nothing.

    A last line that is cut, because its writer was, is left out. Raises `DataError` for any other.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise DataError(
                    f"{path}, line {number} is no JSON ({error}). The file is damaged: delete it, "
                    "or the folder it is in, and it is made again."
                ) from error


def content_hash(path: Path) -> str:
    """Return a BLAKE2b of a file's content, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def kind_of(mode: int) -> str | None:
    """Say in words what a `st_mode` is of; None for a regular file."""
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def check_regular(path: Path) -> os.stat_result:
    """Return a file's stat, links followed. Raises `DataError` for what is no readable file.

    Opening a named pipe would wait for ever.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read {path}: {reason}.") from error
    if kind := kind_of(found.st_mode):
        raise DataError(f"cannot read {path}: it is {kind}. Give a file.")
    return found
