"""Which pictures of validation, pool and test are the same, or nearly so.

Two pictures are the same if their files are equal byte by byte. They are near if their perceptual
hashes differ in few bits and their pixels at 16 x 16 correlate: a copy that was scaled, brightened,
compressed again or stored in another format. A crop, a mirror image, a greyscale copy or another
photograph of the same scene is not found.

The perceptual hash is pHash (Zauner 2010): the signs of the lowest 8 x 8 DCT coefficients of the
grey picture at 32 x 32, relative to their median. On drawn pictures it sees the layout alone (three
other letters in the same place agree in 60 bits), hence the correlation.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from icons_repro.core.pictures import whole_images_only
from icons_repro.core.progress import watched

Picture = tuple[str, Path | bytes]
"""A name for people, and the file or its bytes."""

SIDE, LOW, PATCHES = 32, 8, 16
DISTANCE = 6
"""Most bits of 64 in which near pictures may differ."""
LEAST_CORRELATION = 0.95
"""Of near pictures, over 16 x 16 patches and three colours."""
FLAT = 2.0
"""Standard deviation of grey below which a picture has no features to hash."""
BLOCK = 512


@dataclass(frozen=True)
class Prints:
    """Fingerprints of some pictures."""

    names: list[str]
    digests: list[bytes]
    """BLAKE2b of each file; empty where there is none."""
    usable: np.ndarray
    """int64 `[m]`: which of them could be read and are not flat."""
    hashes: np.ndarray
    """uint8 `[m, 8]`: their perceptual hashes."""
    patches: np.ndarray
    """uint8 `[m, 768]`: their mean colours over 16 x 16 patches."""
    unreadable: list[str]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Overlap:
    """Pictures of one list that another list has too."""

    same: int
    """With an equal file in the other list."""
    near: int
    """With a near picture, and no equal file."""
    others: int
    """Pictures of the other list that are equal or near to one of this."""
    examples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "same_file": self.same,
            "near": self.near,
            "matched": self.others,
            "examples": self.examples,
        }


def leakage(
    pool: Iterable[Picture],
    targets: Mapping[str, Iterable[Picture]],
    tests: Mapping[str, Iterable[Picture]],
    examples: int = 5,
) -> dict[str, Any]:
    """Return which pictures of targets, pool and tests are shared, as a JSON object.

    `targets` and `tests` map a task's or benchmark's name to its pictures. Every target is compared
    with every test, not with its own benchmark's alone. `targets_in_pool[task]`,
    `tests_in_pool[benchmark]` and `targets_in_tests[task][benchmark]` (without empty ones) count
    pictures of the first that the second has, and under `matched` those of the second. Unreadable
    and flat pictures are counted, and compared by their bytes alone.
    """
    chosen_from = fingerprint(pool, "pool")
    drawn = {name: fingerprint(images, name) for name, images in targets.items()}
    asked = {name: fingerprint(images, name) for name, images in tests.items()}
    crossed = {
        task: {name: overlap(mine, theirs, examples) for name, theirs in asked.items()}
        for task, mine in drawn.items()
    }
    return {
        "rule": {"bits": 8 * LOW, "distance": DISTANCE, "correlation": LEAST_CORRELATION},
        "pool": _counts(chosen_from, examples),
        "targets": {name: _counts(found, examples) for name, found in drawn.items()},
        "tests": {name: _counts(found, examples) for name, found in asked.items()},
        "targets_in_pool": _with(drawn, chosen_from, examples),
        "tests_in_pool": _with(asked, chosen_from, examples),
        "targets_in_tests": {
            task: {name: o.to_json() for name, o in found.items() if o.same or o.near}
            for task, found in crossed.items()
        },
    }


def _counts(prints: Prints, examples: int) -> dict[str, Any]:
    flat = len(prints) - len(prints.usable) - len(prints.unreadable)
    return {
        "pictures": len(prints),
        "flat": flat,
        "unreadable": len(prints.unreadable),
        "unreadable_examples": prints.unreadable[:examples],
    }


def _with(lists: Mapping[str, Prints], other: Prints, examples: int) -> dict[str, Any]:
    return {name: overlap(mine, other, examples).to_json() for name, mine in lists.items()}


def fingerprint(pictures: Iterable[Picture], label: str = "pictures") -> Prints:
    """Read pictures once and return their fingerprints; a name that comes again is passed over."""
    names: list[str] = []
    digests: list[bytes] = []
    unreadable: list[str] = []
    usable = [np.zeros(0, dtype=np.int64)]
    hashes = [np.zeros((0, LOW), dtype=np.uint8)]
    patches = [np.zeros((0, 3 * PATCHES**2), dtype=np.uint8)]
    shown = watched(_distinct(pictures), label, unit="picture")
    for block in _blocks(shown):
        first = len(names)
        pixels = np.zeros((len(block), SIDE, SIDE, 3), dtype=np.uint8)
        for place, (name, source) in enumerate(block):
            names.append(name)
            digests.append(b"")
            try:
                data = source.read_bytes() if isinstance(source, Path) else source
                digests[-1] = hashlib.blake2b(data, digest_size=16).digest()
                pixels[place] = _small(data)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                unreadable.append(name)
        grey = pixels @ np.array([0.299, 0.587, 0.114])
        kept = np.flatnonzero(grey.std(axis=(1, 2)) >= FLAT)
        usable.append(first + kept)
        hashes.append(perceptual_hash(grey[kept]))
        patches.append(_patches(pixels[kept]))
    return Prints(
        names, digests, np.concatenate(usable), np.concatenate(hashes), np.concatenate(patches),
        unreadable,
    )  # fmt: skip


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """Return pHash uint8 `[n, 8]` of grey pictures `[n, 32, 32]`."""
    low = dctn(grey, axes=(1, 2))[:, :LOW, :LOW].reshape(len(grey), LOW * LOW)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def overlap(mine: Prints, other: Prints, examples: int = 5) -> Overlap:
    """Return the pictures of `mine` that are the same as, or near to, one of `other`."""
    places: dict[bytes, int] = {}
    for place, digest in enumerate(other.digests):
        places.setdefault(digest, place)
    same = {i: places[d] for i, d in enumerate(mine.digests) if d and d in places}
    wanted = set(mine.digests) - {b""}
    others = {place for place, digest in enumerate(other.digests) if digest in wanted}
    shown = [(0, -1, i, j) for i, j in same.items()]
    near: dict[int, tuple[int, int]] = {}
    for i, j, bits in _near(mine, other):
        others.update(j.tolist())
        for left, right, distance in zip(i.tolist(), j.tolist(), bits.tolist(), strict=True):
            if left not in same and (left not in near or distance < near[left][0]):
                near[left] = distance, right
    shown += [(1, bits, i, j) for i, (bits, j) in near.items()]
    named = [
        {"picture": mine.names[i], "other": other.names[j], "bits": None if bits < 0 else bits}
        for _, bits, i, j in sorted(shown)[:examples]
    ]
    return Overlap(len(same), len(near), len(others), named)


def _near(mine: Prints, other: Prints) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield `(i, j, bits)`: places of near pictures, and in how many bits they differ."""
    import faiss

    if not len(mine.usable) or not len(other.usable):
        return
    index = faiss.IndexBinaryFlat(8 * LOW)
    index.add(np.ascontiguousarray(other.hashes))
    for start in range(0, len(mine.usable), BLOCK):
        block = np.ascontiguousarray(mine.hashes[start : start + BLOCK])
        limits, bits, j = index.range_search(block, DISTANCE + 1)
        ends = limits.astype(np.int64)
        i = start + np.repeat(np.arange(len(block)), ends[1:] - ends[:-1])
        close = _correlation(mine.patches[i], other.patches[j]) >= LEAST_CORRELATION
        yield mine.usable[i[close]], other.usable[j[close]], bits[close].astype(np.int64)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the rows of two arrays `[n, 768]`; a constant row has none (0)."""
    x, y = first.astype(np.float32), second.astype(np.float32)
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    lengths = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), lengths, out=np.zeros(len(x)), where=lengths > 0)


def _small(data: bytes) -> np.ndarray:
    """Return a picture at 32 x 32, uint8 `[32, 32, 3]`; JPEGs are decoded no larger than needed."""
    with whole_images_only(), Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (4 * SIDE, 4 * SIDE))
        seen: Image.Image = image
        if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
            paper = Image.new("RGBA", image.size, "white")
            seen = Image.alpha_composite(paper, image.convert("RGBA"))
        small = seen.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, None, 3.0)
    return np.asarray(small)


def _patches(pixels: np.ndarray) -> np.ndarray:
    """Return mean colours uint8 `[n, 768]` of pictures `[n, 32, 32, 3]`."""
    step = SIDE // PATCHES
    blocks = pixels.reshape(len(pixels), PATCHES, step, PATCHES, step, 3)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8).reshape(len(pixels), 3 * PATCHES**2)


def _distinct(pictures: Iterable[Picture]) -> Iterator[Picture]:
    seen = set()
    for name, source in pictures:
        if name not in seen:
            seen.add(name)
            yield name, source


def _blocks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    iterator = iter(pictures)
    while block := list(islice(iterator, BLOCK)):
        yield block
