"""Real pictures that nobody here drew: easy-VQA's shapes and scikit-learn's handwritten digits.

easy-VQA (Victor Zhou, PyPI package `easy-vqa`): 5,000 pictures of 64x64 with one coloured shape and
their questions; here halved to 32x32. The digits are the 1,797 scans of 8x8 pixels that
scikit-learn ships (UCI Optical Recognition of Handwritten Digits); here tripled, on
the left or right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import easy_vqa
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from icons_repro.tiny.scenes import EASY_RGB, EASY_SHAPES, SIDE, Scene, blank
from icons_repro.tiny.streams import Split, split_of

EASY_COLORS = tuple(EASY_RGB)


@dataclass(frozen=True)
class ShapePicture:
    """One easy-VQA image with the facts that its own questions tell."""

    pixels: np.ndarray
    """uint8 `[32, 32, 3]`."""
    color: str
    shape: str
    questions: tuple[tuple[str, str], ...]
    """easy-VQA's own open questions about it, with their answers (yes/no questions left out)."""


@cache
def shape_pictures(split: Split) -> tuple[ShapePicture, ...]:
    """Return easy-VQA's images that belong to a split, in the package's order.

    The tenth of the images whose questions do not give away both colour and shape, or are
    all of the yes/no kind, are left out.
    """
    pictures = (p for p in _all_shape_pictures() if p.color and p.shape and p.questions)
    return tuple(p for p in pictures if split_of(p.pixels) == split)


@cache
def digit_pictures(split: Split) -> tuple[tuple[np.ndarray, int], ...]:
    """Return the scans of a split: ink uint8 `[8, 8]` from 0 to 16, and the digit."""
    data = load_digits()
    scans = data.images.astype(np.uint8)
    pairs = zip(scans, data.target, strict=True)
    return tuple((scan, int(digit)) for scan, digit in pairs if split_of(scan) == split)


def shape_scene(picture: ShapePicture) -> Scene:
    """Return an easy-VQA image as a scene."""
    facts = {"color": picture.color, "shape": picture.shape, "questions": picture.questions}
    return Scene("shape", picture.pixels, facts, picture.pixels)


def digit_scene(scan: np.ndarray, digit: int, rng: np.random.Generator) -> Scene:
    """Place a scan, three times its size and in dark ink, on the left or right of a canvas."""
    pixels = blank(rng)
    ink = scan.repeat(3, axis=0).repeat(3, axis=1).astype(np.float64)[:, :, None] / 16
    y, x = 4, 8 * int(rng.integers(0, 2))
    patch = pixels[y : y + 24, x : x + 24]
    pixels[y : y + 24, x : x + 24] = np.round(patch * (1 - ink) + 20 * ink).astype(np.uint8)
    return Scene("digit", pixels, {"digit": digit}, scan)


@cache
def _all_shape_pictures() -> tuple[ShapePicture, ...]:
    root = Path(easy_vqa.__file__).parent / "data"
    return tuple(p for part in ("train", "test") for p in _read_part(root / part))


def _read_part(folder: Path) -> list[ShapePicture]:
    questions: dict[int, list[tuple[str, str]]] = {}
    for text, answer, image in json.loads((folder / "questions.json").read_text()):
        questions.setdefault(image, []).append((text, answer))
    return [
        _read_picture(folder / "images" / f"{image}.png", asked)
        for image, asked in sorted(questions.items())
    ]


def _read_picture(path: Path, asked: list[tuple[str, str]]) -> ShapePicture:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.uint16)
    half = pixels.reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    true_words = {word for text, answer in asked for word in _true_words(text, answer)}
    color = next((word for word in EASY_COLORS if word in true_words), "")
    shape = next((word for word in EASY_SHAPES if word in true_words), "")
    open_questions = tuple(qa for qa in asked if qa[1] not in ("yes", "no"))
    return ShapePicture(half, color, shape, open_questions)


def _true_words(text: str, answer: str) -> list[str]:
    """Return the words that a question and its answer assert; none if they deny something."""
    words = text.rstrip("?").split()
    denied = (answer == "no") != ("no" in words or "not" in words)
    return [] if denied else [*words, answer]
