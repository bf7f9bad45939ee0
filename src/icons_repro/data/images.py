"""Open images as LLaVA-1.5 does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image, ImageFile

from icons_repro.core.errors import DataError

AspectRatio = Literal["pad", "square"]


@contextmanager
def whole_images_only() -> Iterator[None]:
    """Refuse cut image files, even where some package has told Pillow to fill them with grey."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def load_image(path: Path) -> Image.Image:
    """Open an image as RGB. Raises `DataError` naming the file."""
    try:
        with whole_images_only(), Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"image {path} cannot be read: {error}. "
            "Set data.check_images=decode and data.on_bad_row=skip to find and leave out such rows."
        ) from error


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Paste the image centred on a square of `colour` (LLaVA: the CLIP mean, times 255)."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
