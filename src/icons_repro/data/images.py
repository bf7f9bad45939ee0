"""Open images as LLaVA-1.5 does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.core.pictures import TOO_LARGE, PictureError, find_picture, open_picture
from icons_repro.core.settings import RecordPolicy

AspectRatio = Literal["pad", "square"]


class ImageFolder:
    """The images of a pool: opens them by name, under the checks that the pool was read with."""

    def __init__(self, root: Path, policy: RecordPolicy | None = None) -> None:
        self.root = os.path.realpath(root)
        self.policy = policy or RecordPolicy()

    def find(self, name: str) -> str:
        """Return an image's path. Raises `PictureError`, see `find_picture`."""
        return find_picture(self.root, name, self.policy.follow_symlinks)

    def decode(self, name: str) -> Image.Image:
        """Return an image as RGB. Raises `PictureError`, see `open_picture`."""
        try:
            return open_picture(self.find(name), name, self.policy.max_image_pixels)
        except PictureError as error:
            if error.reason != TOO_LARGE:
                raise
            detail = f"{error}; data.max_image_pixels sets the bound"
            raise PictureError(TOO_LARGE, detail) from error

    def load(self, name: str) -> Image.Image:
        """Return an image as RGB. Raises `DataError` naming the file and what to do."""
        try:
            return self.decode(name)
        except PictureError as error:
            raise DataError(
                f"{error} ({self.root}/{name}). Set data.check_images=decode and "
                "data.on_bad_row=skip to find and leave out such rows."
            ) from error


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Paste the image centred on a square of `colour` (LLaVA: the CLIP mean, times 255)."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
