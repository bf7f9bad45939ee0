"""How lmms-eval reads a row of a local benchmark (`question`, `answer`, `image`).

The YAML templates beside this file name these functions by their import path.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from icons_repro.core.pictures import open_picture


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the row's image as RGB, or none for a text-only question.

    Raises `DataError` naming the question of an image that does not decode.
    """
    image = doc["image"]
    if image is None or (isinstance(image, Mapping) and image["bytes"] is None):
        return []
    if isinstance(image, Mapping):
        return [open_picture(io.BytesIO(image["bytes"]), f"of question {doc['question_id']}")]
    return [image.convert("RGB")]


def doc_to_text(doc: Mapping[str, Any]) -> str:
    """Return the question as it stands, without a prompt around it: a model is tuned on such."""
    return str(doc["question"])
