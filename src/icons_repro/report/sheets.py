"""Many small pictures as a few large ones: sheets of WebP, within a budget of bytes.

One file for each thumbnail would cost a header and a decoder's start each; a sheet of a hundred
takes a third of the bytes at the tiny world's sizes, and encodes faster.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ACROSS = 10
"""Pictures side by side in a sheet, and one below the other."""
SMALL = 64
"""Pictures up to this side are kept as they are where that fits: drawn ones are even smaller so."""
LOSSLESS = 0
LEVELS = ((128, 75), (112, 65), (96, 60), (80, 50), (64, 40), (48, 30))
"""Largest side of a picture in pixels, and WebP's quality: the first that fits is taken."""
NO_PICTURE, UNREADABLE, LEFT_OUT = -1, -2, -3
"""In place of a picture's number: the row has none; it cannot be read; the budget was used up."""

Load = Callable[[], "Image"]
"""Opens one picture. Raises `DataError` for what training would not open either."""


@dataclass
class Sheets:
    """Pictures 0, 1, ... in the order in which they were added."""

    cell: int
    quality: int
    """WebP's, or `LOSSLESS`."""
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)
    """base64 of WebP."""
    waiting: list[Image] = field(default_factory=list)

    def add(self, picture: Image) -> int:
        """Add a picture and return its number."""
        small = shrunk(picture, self.cell)
        self.widths.append(small.width)
        self.heights.append(small.height)
        self.waiting.append(small)
        if len(self.waiting) == ACROSS**2:
            self.close()
        return len(self.widths) - 1

    def close(self) -> None:
        """Encode what waits for its sheet to be full."""
        if self.waiting:
            self.sheets.append(encoded(self.waiting, self.cell, self.quality))
            self.waiting = []

    @property
    def size(self) -> int:
        """Bytes of the sheets so far."""
        return sum(map(len, self.sheets))

    def to_json(self) -> dict[str, Any]:
        """Return what `list.js` reads."""
        return {
            "cell": self.cell,
            "across": ACROSS,
            "sharp": self.quality == LOSSLESS,
            "widths": self.widths,
            "heights": self.heights,
            "sheets": self.sheets,
        }


def shrunk(picture: Image, side: int) -> Image:
    """Return the picture at most `side` pixels wide and high; a smaller one as it is."""
    small = picture.copy()
    small.thumbnail((side, side), reducing_gap=2.0)
    return small


def encoded(pictures: Sequence[Image], cell: int, quality: int) -> str:
    """Return one sheet as base64 of WebP."""
    from PIL import Image

    rows = -(-len(pictures) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * cell, rows * cell), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % ACROSS * cell, number // ACROSS * cell))
    return as_webp(sheet, quality)


def as_webp(picture: Image, quality: int) -> str:
    """Return a picture as base64 of WebP."""
    buffer = io.BytesIO()
    if quality == LOSSLESS:
        picture.save(buffer, format="WEBP", lossless=True, quality=40, method=2)
    else:
        picture.save(buffer, format="WEBP", quality=quality, method=2)
    return base64.b64encode(buffer.getvalue()).decode()


def build_sheets(loads: Sequence[Load | None], budget: int) -> tuple[Sheets, list[int]]:
    """Return sheets of at most about `budget` bytes, and each load's number in them.

    None, and what cannot be read, get the numbers above. Once the budget is used up, no more
    pictures are added, so that no page grows without end.
    """
    sheets = _level(loads, budget)
    numbers = []
    for load in loads:
        if load is None:
            numbers.append(NO_PICTURE)
        elif sheets.size >= budget:
            numbers.append(LEFT_OUT)
        else:
            picture = _read(load)
            numbers.append(UNREADABLE if picture is None else sheets.add(picture))
    sheets.close()
    return sheets, numbers


def _level(loads: Sequence[Load | None], budget: int) -> Sheets:
    """Choose size and quality by a sheet of pictures from all over."""
    known = [load for load in loads if load is not None]
    step = max(1, len(known) // ACROSS**2)
    sample = list(_readable(known[::step][: ACROSS**2]))
    largest = max((max(picture.size) for picture in sample), default=1)
    cell, quality = LEVELS[-1]
    for level, quality in (*(((SMALL, LOSSLESS),) if largest <= SMALL else ()), *LEVELS):
        cell = min(level, largest)
        tried = len(encoded([shrunk(p, cell) for p in sample], cell, quality)) if sample else 0
        if tried * len(known) <= budget * len(sample):
            break
    return Sheets(cell, quality)


def _readable(loads: Sequence[Load]) -> Iterator[Image]:
    for load in loads:
        if (picture := _read(load)) is not None:
            yield picture


def _read(load: Load) -> Image | None:
    try:
        return load()
    except DataError:  # it has changed since the pool was read
        return None


def as_data(picture: Image, side: int) -> str:
    """Return one picture as a `data:` address, at most `side` pixels wide or high."""
    small = shrunk(picture, side)
    quality = LOSSLESS if max(small.size) <= SMALL else 80
    return f"data:image/webp;base64,{as_webp(small, quality)}"
