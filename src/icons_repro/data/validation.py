"""What makes one row of a LLaVA-format file usable."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from icons_repro.core.pictures import PictureError, check_name
from icons_repro.core.types import IMAGE_TOKEN, dialogue
from icons_repro.data.images import ImageFolder

SPEAKERS = ("human", "gpt")
"""Who speaks in even turns, and who in odd ones. No set: a row may hold a list as speaker."""
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


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


def json_text(raw: Any) -> tuple[str, RowProblem | None]:
    """Return a row as JSON that any program reads, and what had to be changed for that."""
    if isinstance(raw, RowProblem):
        return "null", raw
    try:
        text = _to_json(raw)
        text.encode()
    except UnicodeEncodeError as error:
        detail = (
            f"character {error.start:,} of the row is half a surrogate pair, or a byte that is not "
            "of the file's encoding"
        )
        return json.dumps(raw), RowProblem("broken_text", detail)
    except ValueError:
        detail = "the row holds NaN or an infinite number, which JSON does not know"
        finite = json.loads(json.dumps(raw), parse_constant=lambda _: None)
        return json.dumps(finite), RowProblem("not_finite", detail)
    return text, None


UNUSABLE = "unusable"
"""The one field of a row that could not be turned into LLaVA's schema (data/formats)."""


def unusable_row(problem: RowProblem) -> dict[str, Any]:
    """Return what stands in the place of such a row, and says why."""
    return {UNUSABLE: problem.as_dict()}


def row_images(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row's image paths: `image` holds a string, a list of strings, or nothing."""
    image = raw.get("image")
    if not image:
        return ()
    return (image,) if isinstance(image, str) else tuple(image)


def seen_images(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images that the model sees: none where the text of a sound row has no tag."""
    return row_images(raw) if image_tags(raw) else ()


def image_tags(raw: Mapping[str, Any]) -> int:
    """Count the images that the turns which are trained on ask for.

    Each tag asks for one; but where the row has one image, all tags of a turn ask for that, as
    LLaVA puts one tag in their place (llava/train/train.py, `preprocess_multimodal`).
    """
    counts = [turn["value"].count(IMAGE_TOKEN) for turn in dialogue(raw["conversations"])]
    return sum(map(bool, counts)) if len(row_images(raw)) == 1 else sum(counts)


def check_row(raw: Any, images: ImageFolder) -> RowProblem | None:
    """Return what is wrong with a row, or None."""
    if not isinstance(raw, Mapping):
        return RowProblem("not_an_object", f"expected an object, found {type(raw).__name__}")
    return _check_turns(raw) or _check_images(raw, images)


def _check_turns(raw: Mapping[str, Any]) -> RowProblem | None:
    turns = raw.get("conversations")
    if list(raw) == [UNUSABLE] and isinstance(raw[UNUSABLE], Mapping):
        said = (str(raw[UNUSABLE].get(field)) for field in ("reason", "detail"))
        return RowProblem(*said)
    if not isinstance(turns, list) or not turns:
        return RowProblem("no_conversations", "`conversations` is missing or empty")
    for number, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            return RowProblem("bad_turn", f"turn {number} has no text in `value`")
        speaker = turn.get("from")
        if speaker not in SPEAKERS:
            return RowProblem(
                "unknown_speaker",
                f"turn {number} is from {_short.repr(speaker)}; it must be 'human' or 'gpt'",
            )
        if number and speaker == turns[number - 1]["from"]:
            return RowProblem("turn_order", f"turn {number} is out of order: speakers alternate")
    if not any(turn["from"] == "gpt" and turn["value"].strip() for turn in dialogue(turns)):
        return RowProblem("no_answer", "no turn from 'gpt' has any text")
    return None


def _check_images(raw: Mapping[str, Any], images: ImageFolder) -> RowProblem | None:
    field = raw.get("image")
    paths = row_images(raw) if isinstance(field, str | list | None) else (field,)
    if not all(isinstance(path, str) and path for path in paths):
        return RowProblem(
            "bad_image_field", f"`image` is {_short.repr(field)}; a path or a list of paths"
        )
    tags = image_tags(raw)
    untagged = not tags and len(paths) == 1  # LLaVA trains on the text of such a row
    if paths and tags != len(paths) and not untagged:  # without an image, a tag is text
        return RowProblem(
            "image_token_count",
            f"the text asks for {tags} images ({IMAGE_TOKEN}) and the row has {len(paths)}",
        )
    for path in paths:
        if problem := check_image(images, path):
            return problem
    return None


def check_image(images: ImageFolder, name: str) -> RowProblem | None:
    """Return what is wrong with one image, at the level that the folder's policy asks for."""
    try:
        match images.policy.check_images:
            case "none":
                check_name(name, images.root)
            case "exists":
                images.find(name)
            case "decode":
                images.decode(name)
    except PictureError as error:
        return RowProblem(error.reason, str(error))
    return None
