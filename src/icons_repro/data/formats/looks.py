"""The images in a folder that a source's rows name, as they are now."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa

from icons_repro.core.files import replacing
from icons_repro.core.pictures import PictureError, check_name
from icons_repro.core.refs import ImagesRef
from icons_repro.core.settings import ImageIdentity
from icons_repro.core.step import identity_of
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.formats.registry import FORMATS
from icons_repro.data.formats.rows import image_paths
from icons_repro.data.formats.turns import wanted_fields
from icons_repro.data.image_identity import (
    Listing,
    image_fingerprint,
    list_images,
    load_listing,
    save_listing,
)


def images_ref(source: SourceSpec, folder: Path, identity: ImageIdentity, cache: Path) -> ImagesRef:
    """Look at every image that the rows name; which these are is remembered by the files' content.

    With `none` nothing is looked at, and the folder's path is the name.
    """
    if identity == "none":
        return ImagesRef(digest=str(folder), folder=str(folder), identity=identity)
    text = json.dumps(identity_of(source), sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    memory = cache / "images" / f"rows-{key}.parquet"
    try:
        known: Listing | None = load_listing(memory)
    except (OSError, KeyError, pa.ArrowException):
        known = None
    names = named_images(source) if known is None else sorted(known)
    found = list_images(names, folder, identity, known)
    if known is None or (identity == "hash" and found != known):
        with replacing(memory) as part:
            save_listing(found, part)
    return ImagesRef(digest=image_fingerprint(found), folder=str(folder), identity=identity)


def images_now(source: SourceSpec, folder: Path) -> str:
    """Return the digest of `images_ref`, from the files as they are now."""
    assert source.images is not None
    if source.images.identity == "none":
        return source.images.digest
    found = list_images(named_images(source), folder, source.images.identity)
    return image_fingerprint(found)


def named_images(source: SourceSpec) -> list[str]:
    """Return the distinct image paths of all rows that stay below their folder, sorted."""
    kind = FORMATS[source.format]
    names: set[str] = set()
    for shard in kind.shards(source):
        for row in kind.rows(source, shard, wanted_fields(source.columns)):
            names.update(image_paths(row, source))
    return sorted(name for name in names if _below(name))


def _below(name: str) -> bool:
    """Whether a name stays in the folder, and can be written to a file; other rows are refused."""
    try:
        name.encode()
        check_name(name, "")
    except (PictureError, UnicodeError):
        return False
    return "://" not in name
