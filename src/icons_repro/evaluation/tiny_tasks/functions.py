"""How lmms-eval reads a row of a local benchmark (`question`, `answer`, `image`).

The YAML templates beside this file name these functions by their import path.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the row's image as RGB, or none for a text-only question."""
    image = doc["image"]
    if image is None or (isinstance(image, Mapping) and image["bytes"] is None):
        return []
    if isinstance(image, Mapping):
        image = Image.open(io.BytesIO(image["bytes"]))
    return [image.convert("RGB")]


def doc_to_text(doc: Mapping[str, Any]) -> str:
    """Return the question as it stands: the tiny model was tuned on bare questions."""
    return str(doc["question"])
