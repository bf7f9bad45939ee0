"""Scenes: a picture of 32x32 pixels and the facts that it shows.

Four kinds are rendered here from seeded randomness: dots to count, shapes in quadrants, bar charts
and three-letter texts. Real pictures come from `realdata`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 32
"""Height and width of every picture, in pixels."""

RGB: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 220),
    "yellow": (235, 200, 30),
    "teal": (20, 170, 180),
    "black": (25, 25, 25),
}
"""Ink colours of the rendered scenes."""
TINTS: dict[str, tuple[int, int, int]] = {
    "pink": (255, 200, 210),
    "mint": (200, 255, 215),
    "cream": (255, 245, 195),
    "violet": (220, 205, 255),
}
"""Background tints: what an off-target source asks about."""
SHAPES = ("circle", "square", "triangle", "cross")
ROWS, COLUMNS = ("top", "bottom"), ("left", "right")
BAR_COLORS = ("red", "green", "blue", "yellow")
MAX_DOTS, MAX_BAR = 5, 7

GLYPHS: dict[str, tuple[str, ...]] = {
    "c": ("01110", "10001", "10000", "10000", "10000", "10001", "01110"),
    "e": ("11111", "10000", "10000", "11110", "10000", "10000", "11111"),
    "h": ("10001", "10001", "10001", "11111", "10001", "10001", "10001"),
    "k": ("10001", "10010", "10100", "11000", "10100", "10010", "10001"),
    "n": ("10001", "11001", "10101", "10101", "10011", "10001", "10001"),
    "t": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "x": ("10001", "01010", "00100", "00100", "00100", "01010", "10001"),
    "z": ("11111", "00001", "00010", "00100", "01000", "10000", "11111"),
}
"""Capital letters as 7 rows of 5 pixels, so that no font of the machine matters."""
LETTERS = tuple(GLYPHS)
_GLYPH_MASKS = {
    letter: np.array([[c == "1" for c in row] for row in rows]) for letter, rows in GLYPHS.items()
}
EASY_RGB: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (0, 128, 128),
    "black": (0, 0, 0),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
}
"""easy-VQA's colours."""
EASY_SHAPES = ("circle", "rectangle", "triangle")


@dataclass(frozen=True)
class Scene:
    """One picture and what is in it."""

    kind: str
    """dots, spatial, bars, text, shape (easy-VQA) or digit."""
    pixels: np.ndarray
    """uint8 `[32, 32, 3]`."""
    facts: dict[str, Any]
    """What questions and captions are made from; keys depend on `kind`."""
    split_pixels: np.ndarray
    """The pixels that decide the split: the picture, or the real image it was made from."""


Renderer = Callable[[np.random.Generator], Scene]


def blank(rng: np.random.Generator) -> np.ndarray:
    """Return a nearly white canvas, uint8 `[32, 32, 3]`; its brightness varies a little."""
    return np.full((SIDE, SIDE, 3), 255 - rng.integers(0, 24), dtype=np.uint8)


def tinted(scene: Scene, tint: str) -> np.ndarray:
    """Return the scene's pixels with the background (its top-left pixel's colour) in a tint."""
    pixels = scene.pixels.copy()
    background = (pixels == pixels[0, 0]).all(axis=2)
    pixels[background] = TINTS[tint]
    return pixels


def dots(rng: np.random.Generator) -> Scene:
    """Draw 1 to 5 dots of each of two colours on a 4x4 grid."""
    pixels = blank(rng)
    first, second = rng.permutation(list(RGB))[:2]
    counts = rng.integers(1, MAX_DOTS + 1, size=2)
    cells = rng.permutation(16)[: counts.sum()]
    for i, cell in enumerate(cells):
        color = first if i < counts[0] else second
        y, x = np.array(divmod(int(cell), 4)) * 8 + rng.integers(1, 3, size=2)
        pixels[y : y + 5, x : x + 5][_mask("circle", 5)] = RGB[color]
    return _scene("dots", pixels, counts={str(first): int(counts[0]), str(second): int(counts[1])})


def spatial(rng: np.random.Generator) -> Scene:
    """Draw two different shapes of different colours in two of the four quadrants."""
    pixels = blank(rng)
    shapes, colors = rng.permutation(SHAPES)[:2], rng.permutation(list(RGB))[:2]
    items = []
    for shape, color, quadrant in zip(shapes, colors, rng.permutation(4)[:2], strict=True):
        row, column = divmod(int(quadrant), 2)
        y, x = np.array([row, column]) * 16 + rng.integers(1, 4, size=2)
        pixels[y : y + 12, x : x + 12][_mask(str(shape), 12)] = RGB[color]
        item = {"shape": str(shape), "color": str(color)}
        items.append(item | {"row": ROWS[row], "column": COLUMNS[column]})
    return _scene("spatial", pixels, items=items)


def bars(rng: np.random.Generator) -> Scene:
    """Draw four coloured bars of different heights, 1 to 7, in random order."""
    pixels = blank(rng)
    order = [str(color) for color in rng.permutation(BAR_COLORS)]
    heights = rng.permutation(np.arange(1, MAX_BAR + 1))[:4]
    for i, (color, height) in enumerate(zip(order, heights, strict=True)):
        left = 8 * i + int(rng.integers(0, 3))
        pixels[SIDE - 4 * int(height) : SIDE, left : left + 6] = RGB[color]
    return _scene("bars", pixels, bars={c: int(h) for c, h in zip(order, heights, strict=True)})


def text(rng: np.random.Generator) -> Scene:
    """Write three letters of eight in one line, in one colour."""
    pixels = blank(rng)
    letters = [LETTERS[i] for i in rng.integers(0, len(LETTERS), size=3)]
    color = RGB[("black", "blue", "red")[int(rng.integers(0, 3))]]
    top = 8 * int(rng.integers(0, 4)) + int(rng.integers(0, 2))
    for i, letter in enumerate(letters):
        x = 8 * i + int(rng.integers(1, 3))
        pixels[top : top + 7, x : x + 5][_GLYPH_MASKS[letter]] = color
    return _scene("text", pixels, letters=letters)


def lone_shape(rng: np.random.Generator) -> Scene:
    """Draw one shape on a pale background, after the manner of easy-VQA; for pre-training alone."""
    pixels = np.tile(rng.integers(230, 256, size=3).astype(np.uint8), (SIDE, SIDE, 1))
    color = list(EASY_RGB)[int(rng.integers(0, len(EASY_RGB)))]
    shape = EASY_SHAPES[int(rng.integers(0, len(EASY_SHAPES)))]
    height = width = int(rng.integers(5, 17))
    if shape == "rectangle":
        width = int(rng.integers(5, 17))
    y, x = int(rng.integers(0, SIDE - height + 1)), int(rng.integers(0, SIDE - width + 1))
    mask = np.ones((height, width), dtype=bool) if shape == "rectangle" else _mask(shape, height)
    pixels[y : y + height, x : x + width][mask] = EASY_RGB[color]
    return _scene("shape", pixels, color=color, shape=shape, questions=())


RENDERERS: dict[str, Renderer] = {"dots": dots, "spatial": spatial, "bars": bars, "text": text}


def _scene(kind: str, pixels: np.ndarray, **facts: Any) -> Scene:
    return Scene(kind, pixels, facts, pixels)


def _mask(shape: str, size: int) -> np.ndarray:
    """Return the filled shape as a boolean mask `[size, size]`."""
    if (shape, size) not in _MASKS:
        _MASKS[shape, size] = _draw_mask(shape, size)
    return _MASKS[shape, size]


_MASKS: dict[tuple[str, int], np.ndarray] = {}


def _draw_mask(shape: str, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    middle = (size - 1) / 2
    if shape == "square":
        return np.ones((size, size), dtype=bool)
    if shape == "circle":
        return (y - middle) ** 2 + (x - middle) ** 2 <= (size / 2) ** 2
    if shape == "triangle":
        return np.abs(x - middle) <= (y + 1) / 2
    return (np.abs(y - middle) <= size / 6) | (np.abs(x - middle) <= size / 6)
