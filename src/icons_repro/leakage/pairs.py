"""Pictures that are alike, side by side, so that a person can judge whether they are one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from icons_repro.leakage.crossings import SAME
from icons_repro.leakage.sources import Source, reopened

FOLDER = "pairs"
MOST = 24
"""Pairs that are kept of each kind of crossing."""
SIDE = 128
"""Pixels of a picture's longer side; a small one is enlarged by whole steps."""
SMALL = 64
"""Pictures up to this side are stored without loss."""
GAP = 8


@dataclass(frozen=True)
class Pair:
    """Two pictures, and where to find them."""

    kind: str
    name: str
    """The list of the first, a task or benchmark."""
    other: str
    rank: int
    """Among the pairs of its two lists."""
    bits: int
    first: str
    second: str
    positions: tuple[int, int]
    sources: tuple[Source, Source]

    @property
    def places(self) -> list[tuple[int, int]]:
        """What `_opened` calls each picture."""
        return [(id(s), p) for s, p in zip(self.sources, self.positions, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return it without its sources."""
        return {
            "kind": self.kind,
            "lists": [self.name, self.other],
            "pictures": [self.first, self.second],
            "bits": None if self.bits == SAME else self.bits,
        }


def write_pairs(pairs: Iterable[Pair], out: Path) -> list[dict[str, Any]]:
    """Write the pairs as `pairs/NN.webp` below `out`, and return them as JSON with their `file`.

    Of each kind at most `MOST`, the first of every two lists before any second. One whose files
    cannot be opened any more has no file.
    """
    kept: list[Pair] = []
    for kind in (grouped := _by_kind(pairs)):
        kept += sorted(grouped[kind], key=lambda pair: (pair.rank, pair.bits))[:MOST]
    opened = _opened(kept)
    (out / FOLDER).mkdir()
    told = []
    for number, pair in enumerate(kept):
        told.append(pair.to_json())
        first, second = (opened.get(place) for place in pair.places)
        if first is not None and second is not None:
            told[-1]["file"] = f"{FOLDER}/{number:02d}.webp"
            both = side_by_side(first, second)
            drawn = max(*first.size, *second.size) <= SMALL
            both.save(out / told[-1]["file"], lossless=drawn, quality=80, method=2)
    return told


def _by_kind(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    grouped: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        grouped[pair.kind].append(pair)
    return grouped


def _opened(pairs: list[Pair]) -> dict[tuple[int, int], Image.Image]:
    """Return the pictures of all pairs, by source and position, each source gone through once."""
    wanted: dict[int, tuple[Source, set[int]]] = {}
    for pair in pairs:
        for source, position in zip(pair.sources, pair.positions, strict=True):
            wanted.setdefault(id(source), (source, set()))[1].add(position)
    return {
        (key, position): picture
        for key, (source, positions) in wanted.items()
        for position, picture in reopened(source, positions).items()
    }


def side_by_side(first: Image.Image, second: Image.Image) -> Image.Image:
    """Return two pictures beside each other on white, `SIDE` pixels high and wide at most."""
    shown = [_fitted(picture) for picture in (first, second)]
    both = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
    for number, picture in enumerate(shown):
        both.paste(picture, (number * (SIDE + GAP), 0))
    return both


def _fitted(picture: Image.Image) -> Image.Image:
    if (times := SIDE // max(picture.size)) > 1:
        size = (times * picture.width, times * picture.height)
        return picture.resize(size, Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    return small
