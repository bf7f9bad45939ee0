"""The images that a user's files name, looked at when a graph is built.

The steps that read the files are named by what is found, so that changed pictures never meet what
was made from the old ones. The names come from one pass over the files, which is remembered by
their content (in `images/` of the cache, with the hashes of contents); after that a look costs one
`stat` a picture (image_identity.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.progress import Progress

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, replacing
from icons_repro.core.integrity import MANIFEST
from icons_repro.core.pictures import PictureError, check_name
from icons_repro.core.refs import ImagesRef, Ref
from icons_repro.core.settings import ImageIdentity
from icons_repro.core.step import identity_of
from icons_repro.data.image_identity import (
    Listing,
    changed_images,
    image_fingerprint,
    list_images,
    load_listing,
    save_listing,
)
from icons_repro.data.json_rows import read_rows

log = logging.getLogger(__name__)
LISTING = "images.parquet"
"""What the images were, in the folder of a step that reads the files."""
NAMED = 3
"""Changed images that a message names."""


class ImageLooks:
    """Looks at images, once for all runs of a sweep."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._seen: dict[str, ImagesRef] = {}

    def ref(self, stage: str, source: Ref, folder: Path, identity: ImageIdentity) -> ImagesRef:
        """Return the images in `folder` that the files of `source` name, as they are now.

        Says which have changed since `stage` last read these files. Raises `DataError` for a file
        that cannot be read. With `none` nothing is looked at, and the folder's path is the name.
        """
        where = ImagesRef(digest=str(folder), folder=str(folder), identity=identity)
        if identity == "none":
            return where
        key = f"{stage} {identity} {_key(source, folder)}"
        if key not in self._seen:
            listing = self.listing(source, where)
            now = image_fingerprint(listing)
            self._seen[key] = ImagesRef(digest=now, folder=str(folder), identity=identity)
            self._say_changes(stage, source, listing, now)
        return self._seen[key]

    def listing(self, source: Ref, images: ImagesRef) -> Listing:
        """Look at every image that the files name, and remember the names and hashes."""
        folder = Path(images.folder)
        memory = self.cache / "images" / f"{_key(source, folder)}.parquet"
        known = _load(memory)
        names = sorted(_names(_files(source), folder)) if known is None else list(known)
        with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task("looking at images", total=len(names))
            passed = lambda count: progress.advance(bar, count)  # noqa: E731
            found = list_images(names, folder, images.identity, known, passed)
        if known is None or (images.identity == "hash" and found != known):
            _save(found, memory)
        return found

    def check(self, source: Ref, images: ImagesRef, out: Path) -> None:
        """Write `LISTING` to `out`. Raises `DataError` if the images are no longer `images`."""
        if images.identity == "none":
            return
        listing = self.listing(source, images)
        if image_fingerprint(listing) != images.digest:
            raise DataError(
                f"images in {images.folder} have changed since this run began. Give the command "
                "again when they stay as they are; it begins with the new ones."
            )
        save_listing(listing, out / LISTING)

    def _say_changes(self, stage: str, source: Ref, listing: Listing, now: str) -> None:
        """Name images that are not what they were when the files were last read."""
        last = _last_read(self.cache / stage, source, now)
        before = _load(last / LISTING) if last else None
        changed = changed_images(before or {}, listing)
        if changed:
            more = ", ..." if len(changed) > NAMED else ""
            log.warning(
                "%s: %d of %d images are not what they were (%s%s); what was made from them is "
                "made again.",
                *(stage, len(changed), len(listing), ", ".join(changed[:NAMED]), more),
            )


def _key(source: Ref, folder: Path) -> str:
    text = json.dumps([identity_of(source), os.path.realpath(folder)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _files(source: Ref) -> Sequence[Path]:
    path = Path(source.path)
    return [path / name for name in source.files] if source.files else [path]


def _names(files: Sequence[Path], folder: Path) -> set[str]:
    """Return all images that rows of the files name, usable rows or not, below the folder."""
    size = sum(file.stat().st_size for file in files)
    found: set[str] = set()
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("reading the names of images", total=size)
        for file in files:
            before = 0
            for row, offset in read_rows(file):
                found.update(_of_row(row))
                progress.advance(bar, offset - before)
                before = offset
    return {name for name in found if _below(name, folder)}


def _of_row(row: Any) -> Iterator[str]:
    image = row.get("image") if isinstance(row, Mapping) else None
    for name in image if isinstance(image, list) else [image]:
        if isinstance(name, str) and name:
            yield name


def _below(name: str, folder: Path) -> bool:
    """Whether a name stays in the folder, and can be written to a file; other rows are refused."""
    try:
        name.encode()
        check_name(name, str(folder))
    except (PictureError, UnicodeError):
        return False
    return True


def _last_read(folder: Path, source: Ref, now: str) -> Path | None:
    """Return the newest artifact made from the same files; None if one has these very images."""
    newest, last = "", None
    for path in folder.glob(f"*/{MANIFEST}"):
        manifest = read_json(path)
        if not isinstance(manifest, dict) or manifest["config"]["source"] != identity_of(source):
            continue
        images = manifest["config"]["images"]
        if isinstance(images, dict) and images["digest"] == now:
            return None
        if manifest["created"] > newest:
            newest, last = manifest["created"], path.parent
    return last


def _load(path: Path) -> Listing | None:
    """Read a listing; None if it is not there, or damaged."""
    try:
        return load_listing(path)
    except (OSError, KeyError, pa.ArrowException):
        return None


def _save(listing: Listing, path: Path) -> None:
    with replacing(path) as part:
        save_listing(listing, part)
