"""What tells that the images of a pool have changed since they were last looked at.

`stat` looks at every referenced file's size and modification time. It costs one `stat` a file:
seconds for 665,000 files on a local disk; on a network file system each is a round trip, so
`WORKERS` of them are under way at once (at 1 ms each, 665,000 files take about 20 s instead of 11
minutes). It misses a file that was changed and given its old size and time, and takes a copy
without its times for a change. `hash` reads every byte once (LLaVA-665K's images are some tens of
gigabytes: as long as copying them takes), and after that only files whose size or time moved; a
copy with new times is the same then. `none` looks at nothing.

Only names below the image folder enter, never the folder's own, so a pool may be moved.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.settings import ImageIdentity as Identity

WORKERS = 32
"""Files looked at together. `stat` waits for the disk or the network, not for the processor."""
BLOCK = 1024
ABSENT = -1
"""Size of an image that is not there, or is no regular file."""


@dataclass(frozen=True)
class ImageState:
    """What one image file is."""

    size: int
    mtime_ns: int
    hash: str | None = None
    """BLAKE2b of the content, 32 hexadecimal characters; None where only `stat` was asked for."""

    def same_file(self, other: ImageState) -> bool:
        """Whether size and modification time agree."""
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    def same(self, other: ImageState) -> bool:
        """Whether the content agrees, or, where it was not read, size and modification time."""
        if self.hash and other.hash:
            return self.hash == other.hash
        return self.same_file(other)


Listing = Mapping[str, ImageState]
"""Image name, relative to its folder, to what its file is."""


def list_images(
    names: Sequence[str],
    root: Path,
    identity: Identity = "stat",
    known: Listing | None = None,
    passed: Callable[[int], object] | None = None,
) -> Listing:
    """Look at every image of `names` (`RecordTable.image_names`) below `root`; sorted by name.

    With `hash`, a file of which `known` has the hash, at the same size and time, is not read again.
    `passed` is called with the number of files looked at, for a progress bar.
    """
    if identity == "none":
        return {}
    look = partial(_look, root=os.path.realpath(root), read=identity == "hash", known=known or {})
    ordered = sorted(set(names))
    listing: dict[str, ImageState] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for block in pool.map(look, _blocks(ordered)):
            listing |= block
            if passed:
                passed(len(block))
    return listing


def _blocks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + BLOCK] for start in range(0, len(names), BLOCK))


def _look(names: Sequence[str], root: str, read: bool, known: Listing) -> dict[str, ImageState]:
    return {name: _state(f"{root}/{name}", read, known.get(name)) for name in names}


def _state(path: str, read: bool, before: ImageState | None) -> ImageState:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return ImageState(ABSENT, 0)
        state = ImageState(found.st_size, found.st_mtime_ns)
        if not read:
            return state
        content = before.hash if before and before.same_file(state) else None
        return ImageState(state.size, state.mtime_ns, content or _content(path))
    except (OSError, ValueError):  # not there, not readable, or no possible name
        return ImageState(ABSENT, 0)


def _content(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def image_fingerprint(listing: Listing) -> str:
    """Return one hash for all images: of contents where they were read, else of sizes and times."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(listing):
        state = listing[name]
        what = state.hash or f"{state.size} {state.mtime_ns}"
        digest.update(f"{len(name)}:{name}{what}\n".encode())
    return digest.hexdigest()


def changed_images(old: Listing, new: Listing) -> list[str]:
    """Return the names of `old` whose file is another or gone in `new`, sorted."""
    gone = ImageState(ABSENT, 0)
    return sorted(name for name, state in old.items() if not state.same(new.get(name, gone)))


def save_listing(listing: Listing, path: Path) -> None:
    """Write parquet: `name`, `size`, `mtime_ns`, `hash`."""
    states = list(listing.values())
    columns = {
        "name": pa.array(list(listing), pa.string()),
        "size": pa.array([state.size for state in states], pa.int64()),
        "mtime_ns": pa.array([state.mtime_ns for state in states], pa.int64()),
        "hash": pa.array([state.hash for state in states], pa.string()),
    }
    pq.write_table(pa.table(columns), path)


def load_listing(path: Path) -> Listing:
    """Read what `save_listing` wrote."""
    table = pq.read_table(path)
    columns = (table[name].to_pylist() for name in ("name", "size", "mtime_ns", "hash"))
    return {name: ImageState(*state) for name, *state in zip(*columns, strict=True)}
