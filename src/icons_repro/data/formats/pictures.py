"""Images of any origin, kept by their content below one folder."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icons_repro.core.pictures import PictureError, find_picture
from icons_repro.data.formats.base import UnfitRow

SIGNATURES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""First bytes of a file, and what its name then ends in; for people, nothing reads it."""


class Pictures:
    """Keeps pictures; equal ones are one file, whoever brings them."""

    def __init__(self, out: Path, root: Path | None = None, follow_symlinks: bool = False) -> None:
        """`root`: the folder that paths are relative to, if there is one."""
        self.out = out
        self.root = None if root is None else os.path.realpath(root)
        self.follow_symlinks = follow_symlinks
        self.kept: dict[str, int] = {}
        """Name to bytes of all that were brought."""

    def keep(self, image: Any) -> str:
        """Store an image given as bytes, `{bytes, path}`, path or data URI; return its name.

        Raises `UnfitRow` for what is none of these, or cannot be read.
        """
        if isinstance(image, Mapping):
            image = image.get("bytes") or image.get("path")
        if isinstance(image, str):
            image = _decoded(image) if image.startswith("data:") else self._read(image)
        if not isinstance(image, bytes) or not image:
            raise UnfitRow(
                "missing_image", f"an image is {type(image).__name__}: no bytes, and no path"
            )
        return self._store(image)

    def _read(self, path: str) -> bytes:
        if "://" in path:
            raise UnfitRow(
                "image_elsewhere", f"the image is at {path[:100]}: download it, and give its path"
            )
        if self.root is None:
            raise UnfitRow(
                "image_elsewhere",
                f"the image is the path {path[:100]}: data.images=FOLDER says below which folder",
            )
        try:
            return Path(find_picture(self.root, path, self.follow_symlinks)).read_bytes()
        except PictureError as error:
            raise UnfitRow(error.reason, str(error)) from error
        except OSError as error:
            raise UnfitRow("unreadable_image", f"image {path[:100]}: {error.strerror}") from error

    def _store(self, data: bytes) -> str:
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        name = f"{digest[:2]}/{digest}{_ending(data)}"
        path = self.out / name
        known = name in self.kept
        self.kept[name] = len(data)
        if known or (path.is_file() and path.stat().st_size == len(data)):
            return name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{digest}.{uuid.uuid4().hex[:8]}.part")  # others may write it too
        part.write_bytes(data)
        os.replace(part, path)
        return name


def _ending(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((end for first, end in SIGNATURES.items() if data.startswith(first)), ".img")


def _decoded(uri: str) -> bytes:
    head, _, text = uri.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("it is not base64")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnfitRow(
            "unreadable_image", f"an image's data URI cannot be read: {error}"
        ) from error
