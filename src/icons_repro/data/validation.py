"""What makes one row of a LLaVA-format file usable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from icons_repro.core.types import dialogue
from icons_repro.data.images import whole_images_only

SPEAKERS = {"human", "gpt"}
IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class RowProblem:
    """Why a row cannot be used."""

    reason: str
    """A short name, counted: missing_image, no_answer, ..."""
    detail: str
    """The same for this row, in words."""

    def as_dict(self) -> dict[str, str]:
        """Return both fields, JSON-ready."""
        return asdict(self)


def row_images(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row's image paths: `image` holds a string, a list of strings, or nothing."""
    image = raw.get("image")
    if not image:
        return ()
    return (image,) if isinstance(image, str) else tuple(image)


def check_row(raw: Any, root: Path, check_images: str = "exists") -> RowProblem | None:
    """Return what is wrong with a row, or None. `root` is the resolved image folder."""
    if not isinstance(raw, Mapping):
        return RowProblem("not_an_object", f"expected an object, found {type(raw).__name__}")
    return _check_turns(raw) or _check_images(raw, root, check_images)


def _check_turns(raw: Mapping[str, Any]) -> RowProblem | None:
    turns = raw.get("conversations")
    if not isinstance(turns, list) or not turns:
        return RowProblem("no_conversations", "`conversations` is missing or empty")
    for number, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            return RowProblem("bad_turn", f"turn {number} has no text in `value`")
        if turn.get("from") not in SPEAKERS:
            return RowProblem(
                "unknown_speaker",
                f"turn {number} is from {turn.get('from')!r}; it must be 'human' or 'gpt'",
            )
        if number and turn["from"] == turns[number - 1]["from"]:
            return RowProblem("turn_order", f"turn {number} is out of order: speakers alternate")
    if not any(turn["from"] == "gpt" and turn["value"].strip() for turn in dialogue(turns)):
        return RowProblem("no_answer", "no turn from 'gpt' has any text")
    return None


def _check_images(raw: Mapping[str, Any], root: Path, level: str) -> RowProblem | None:
    images = raw.get("image")
    paths = row_images(raw) if isinstance(images, str | list | None) else (images,)
    if not all(isinstance(path, str) for path in paths):
        return RowProblem("bad_image_field", f"`image` is {images!r}; a path or a list of paths")
    tokens = sum(turn["value"].count(IMAGE_TOKEN) for turn in dialogue(raw["conversations"]))
    if paths and tokens != len(paths):  # in a row without an image the tag is text like any other
        return RowProblem(
            "image_token_count", f"{tokens} {IMAGE_TOKEN} in the text but {len(paths)} images"
        )
    for path in paths:
        problem = check_image(root, path, level)
        if problem:
            return problem
    return None


def check_image(root: Path, path: str, level: str) -> RowProblem | None:
    """Return what is wrong with one image; `level` is none, exists or decode."""
    if path.startswith("/") or ".." in path.split("/"):
        return RowProblem("image_outside", f"image {path!r} leaves the image folder {root}")
    if level == "none":
        return None
    full = f"{root}/{path}"  # a string: millions of rows pass here
    if not os.path.isfile(full):
        return RowProblem("missing_image", f"image {path!r} is not in {root}")
    if level == "decode":
        try:
            with whole_images_only(), Image.open(full) as image:
                image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return RowProblem("unreadable_image", f"image {path!r} cannot be read: {error}")
    return None
