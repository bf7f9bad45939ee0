"""Questions and pictures for the evaluation tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

QUESTIONS = (
    ("what color is the circle?", "red"),
    ("how many red dots are there?", "3"),
    ("is the square at the top or bottom? top or bottom or left", "top"),
    ("what digit is shown?", "7"),
    ("which bar is the highest?", "blue"),
)


def picture(rng: np.random.Generator) -> Image.Image:
    """A random 32x32 picture."""
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
