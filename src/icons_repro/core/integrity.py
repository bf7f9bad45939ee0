"""What the files of an artifact are when it is finished, and what is wrong with them later.

Names, sizes and links cost one look at the folder. Contents are hashed whole, whatever their size,
when the artifact is finished: BLAKE2b takes about a second for a gigabyte on one core, in threads
beside each other, of files that were just written and are mostly still in memory. What makes a
gigabyte of gradients, or trains an adapter of one, takes minutes to hours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from icons_repro.core.files import content_hash
from icons_repro.core.machine import cores

MANIFEST = "manifest.json"
PARTS = ".parts"
"""Who filled which part of a shared step; gone when it is finished."""
THREADS = 8
"""Files that are hashed beside each other, at most."""
Files = Mapping[str, Any]
"""Path below the folder to `[bytes, BLAKE2b]` of a regular file, or to where a link leads."""


def describe(folder: Path) -> dict[str, Any]:
    """Look at every file of a folder and read it; see `Files`. Links are not followed."""
    found = dict(sorted(_look(folder).items()))
    names = [name for name, state in found.items() if isinstance(state, int)]
    hashes = dict(zip(names, _hashes(folder, names), strict=True))
    return {n: [state, hashes[n]] if n in hashes else state for n, state in found.items()}


def open_to_readers(folder: Path, files: Files, plain: Path) -> None:
    """Let whoever may read `plain`, a file that was just written, read our files beside it.

    safetensors lets their owner alone, and a cache that several people share is of no use then.
    """
    mode = stat.S_IMODE(plain.stat().st_mode)
    for path in (folder / name for name, state in files.items() if not isinstance(state, str)):
        found = path.stat()
        if mode & ~found.st_mode and found.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(found.st_mode) | mode)


def damage(folder: Path, files: Files, contents: bool = False) -> str | None:
    """Say what is missing or another than `files` say; None if nothing is.

    Sizes and links alone, unless `contents`. Files that were added since do not matter.
    """
    found = _look(folder)
    wrong = [say for name, was in files.items() if (say := _differs(folder, name, was, found))]
    if not wrong and contents:
        regular = {name: was[1] for name, was in files.items() if not isinstance(was, str)}
        hashes = zip(regular.items(), _hashes(folder, list(regular)), strict=True)
        wrong = [f"{name} has another content" for (name, was), now in hashes if was != now]
    more = f" and {len(wrong) - 1} more of its files are damaged" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}" if wrong else None


def size_of(folder: Path) -> int:
    """Return the bytes of all regular files below a folder; 0 if it is not there."""
    return sum(state for state in _look(folder).values() if isinstance(state, int))


def _look(folder: Path) -> dict[str, int | str]:
    """Map every file below the folder to its size, every link to where it leads."""
    found: dict[str, int | str] = {}
    below = [""]
    while below:
        prefix = below.pop()
        for entry in _entries(folder / prefix):
            name = f"{prefix}{entry.name}"
            if name in (MANIFEST, PARTS):
                continue
            if entry.is_symlink():
                found[name] = os.readlink(entry.path)
            elif entry.is_dir():
                below.append(f"{name}/")
            elif entry.is_file():
                found[name] = entry.stat().st_size
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:  # removed while we look: its files are then missing
        return


def _differs(folder: Path, name: str, was: Any, found: Mapping[str, int | str]) -> str | None:
    now = found.get(name)
    if isinstance(was, str):
        return None if now == was else f"{name} is no link to {was}"
    if now != was[0] and isinstance(now, int):
        now = _size_by_opening(folder / name)
    if now is None or isinstance(now, str):
        return f"{name} is missing"
    return None if now == was[0] else f"{name} has {now:,} bytes of {was[0]:,}"


def _size_by_opening(path: Path) -> int | None:
    """Ask anew: a network file system may remember a size from while the file was written."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None


def _hashes(folder: Path, names: list[str]) -> list[str]:
    """Hash files beside each other; hashlib lets go of Python's lock on all but tiny pieces."""
    with ThreadPoolExecutor(min(THREADS, cores())) as pool:
        return list(pool.map(lambda name: content_hash(folder / name), names))
