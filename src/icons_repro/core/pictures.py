"""Find a picture without leaving its folder, and open it without filling memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

from icons_repro.core.errors import DataError
from icons_repro.core.files import kind_of

MAX_PIXELS = 100_000_000
"""Default bound on the square that a picture is padded to: side 10,000, or 300 MB as RGB."""

TOO_LARGE = "image_too_large"


class PictureError(DataError):
    """A picture cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        """A short name, counted: missing_image, image_outside, ..."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


def check_name(name: str, root: str) -> None:
    """Raise `PictureError` for a name that says itself that it is not below `root`."""
    if name.startswith("/") or ".." in name.split("/"):
        raise PictureError(
            "image_outside", f"image {shortened(name)} leaves the image folder {root}"
        )


def find_picture(root: str, name: str, follow_symlinks: bool = False) -> str:
    """Return the path of the file `name` below `root`, a folder whose own links are resolved.

    One `lstat` a picture, and one look at each of its folders: 665,000 pass here. Raises
    `PictureError` for a name or a link that leaves `root`, and for what is no regular file.
    """
    check_name(name, root)
    path = f"{root}/{name}"
    try:
        found = os.lstat(path)
        linked = stat.S_ISLNK(found.st_mode)
        if not follow_symlinks and (linked or not _inside(root, os.path.dirname(name))):
            _check_target(root, name, os.path.realpath(path))
        mode = os.stat(path).st_mode if linked else found.st_mode
    except PermissionError as error:
        detail = f"image {shortened(name)} in {root} may not be read: {error.strerror}"
        raise PictureError("unreadable_image", detail) from error
    except (OSError, ValueError) as error:
        raise PictureError("missing_image", f"image {shortened(name)} is not in {root}") from error
    if kind := kind_of(mode):
        raise PictureError("not_a_file", f"image {shortened(name)} in {root} is {kind}, no file")
    return path


def _check_target(root: str, name: str, target: str) -> None:
    if not _below(root, target):
        raise PictureError(
            "image_outside",
            f"image {shortened(name)} is reached through a symbolic link that leaves the image "
            f"folder {root}; data.follow_symlinks=true allows such links",
        )


@lru_cache(maxsize=65536)
def _inside(root: str, folder: str) -> bool:
    return _below(root, os.path.realpath(f"{root}/{folder}"))


def _below(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def open_picture(
    file: str | Path | IO[bytes], name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a picture as RGB. `name` is what errors call it.

    Raises `PictureError` for what does not decode whole, and, before any pixel is decoded, for one
    whose padded square would have more than `max_pixels`.
    """
    with _opened(file, name, max_pixels) as image:
        return image.convert("RGB")


def check_picture(
    file: str | Path | IO[bytes], name: str, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Read a picture's header alone: return its width and height. Raises as `open_picture`."""
    with _opened(file, name, max_pixels) as image:
        return image.size


@contextmanager
def _opened(
    file: str | Path | IO[bytes], name: str, max_pixels: int
) -> Iterator[ImageFile.ImageFile]:
    try:
        with whole_images_only(), _bounded(max_pixels), Image.open(file) as image:
            side = max(image.size)
            if side * side > max_pixels:
                raise PictureError(TOO_LARGE, _too_large(name, image.size, max_pixels))
            yield image
    except Image.DecompressionBombError as error:
        detail = f"image {shortened(name)} is too large: {error}"
        raise PictureError(TOO_LARGE, detail) from error
    except PictureError:
        raise
    except Exception as error:  # Pillow's decoders promise no list of what they raise
        detail = f"image {shortened(name)} cannot be read: {error or type(error).__name__}"
        raise PictureError("unreadable_image", detail) from error


def _too_large(name: str, size: tuple[int, int], max_pixels: int) -> str:
    side = max(size)
    return (
        f"image {shortened(name)} is {size[0]:,} x {size[1]:,}: padded to a square it has "
        f"{side * side:,} pixels, more than the bound of {max_pixels:,}"
    )


@contextmanager
def whole_images_only() -> Iterator[None]:
    """Refuse cut image files, even where some package has told Pillow to fill them with grey."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _bounded(max_pixels: int) -> Iterator[None]:
    """Move Pillow's own bound to ours, for decoders that learn the size while they decode."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def shortened(text: str, length: int = 120) -> str:
    """Return `text` in quotes, its middle left out where it is long."""
    keep = length // 2
    return repr(text if len(text) <= length else f"{text[:keep]}...{text[-keep:]}")
