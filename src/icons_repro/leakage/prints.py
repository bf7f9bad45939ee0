"""Fingerprints of pictures: of their pixels, of what they look like, and what they look like small.

The perceptual hash is pHash (Zauner 2010): the signs of the lowest 8 x 8 DCT coefficients of the
grey picture at 32 x 32, relative to their median.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_json
from icons_repro.core.progress import watched

Load = Callable[[], Image.Image]
"""Opens one picture as RGB. Raises `DataError` saying why it cannot."""
Picture = tuple[str, Load]
"""A name for people, and how to open it."""

SIDE, LOW, PATCHES = 32, 8, 16
FLAT = 2.0
"""Standard deviation of grey below which a picture has no features to hash."""
BLOCK = 512
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
DIGEST = np.dtype("S32")
ARRAYS = ("digests", "positions", "times", "usable", "hashes", "patches")


@dataclass(frozen=True)
class Prints:
    """Fingerprints of `n` different pictures of one list, of which `m` have features."""

    names: Sequence[str]
    digests: np.ndarray
    """`[n]`, dtype `S32`: BLAKE2b of size and RGB pixels."""
    positions: np.ndarray
    """int64 `[n]`: where in its list a picture comes first."""
    times: np.ndarray
    """int64 `[n]`: how often it comes."""
    usable: np.ndarray
    """int64 `[m]`: which of them are not flat."""
    hashes: np.ndarray
    """uint64 `[m]`: their perceptual hashes."""
    patches: np.ndarray
    """uint8 `[m, 768]`: their mean colours over 16 x 16 patches."""
    unreadable: Sequence[str] = ()
    """Why each picture that cannot be opened cannot; the reason names it."""

    def __len__(self) -> int:
        return len(self.names)

    def counts(self, examples: int = 5) -> dict[str, Any]:
        """Return how many there are of what, as a JSON object."""
        return {
            "pictures": len(self),
            "shown": int(self.times.sum()),
            "flat": len(self) - len(self.usable),
            "unreadable": len(self.unreadable),
            "unreadable_examples": list(self.unreadable[:examples]),
        }

    def save(self, folder: Path) -> None:
        """Write `names.json` and one `.npy` for each array."""
        write_json(
            folder / "names.json",
            {"names": list(self.names), "unreadable": list(self.unreadable)},
        )
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Prints:
        """Read what `save` wrote; the arrays stay on disk."""
        texts = read_json(folder / "names.json") or {}
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(names=texts["names"], unreadable=texts["unreadable"], **arrays)


def fingerprint(pictures: Iterable[Picture], label: str = "pictures", threads: int = 0) -> Prints:
    """Open pictures once and return their fingerprints.

    One whose pixels came before in the list is counted and passed over. Those that cannot be opened
    are named in `unreadable`. `threads` open several at a time.
    """
    made = _Growing()
    shown = watched(pictures, label, unit="picture")
    with ExitStack() as stack:
        run = stack.enter_context(ThreadPoolExecutor(threads)).map if threads else map
        for block in _blocks(shown):
            made.add([name for name, _ in block], list(run(_opened, (load for _, load in block))))
    return made.finished()


@dataclass
class _Growing:
    """Prints of the pictures so far."""

    read: int = 0
    places: dict[bytes, int] = field(default_factory=dict)
    """Of a digest among the different pictures."""
    names: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    usable: list[np.ndarray] = field(default_factory=list)
    hashes: list[np.ndarray] = field(default_factory=list)
    patches: list[np.ndarray] = field(default_factory=list)

    def add(self, names: Sequence[str], opened: Sequence[tuple[bytes, np.ndarray] | str]) -> None:
        """Add a block of opened pictures."""
        small, first = [], len(self.names)
        for name, seen in zip(names, opened, strict=True):
            self.read += 1
            if isinstance(seen, str):
                self.unreadable.append(seen)
            elif (place := self.places.setdefault(seen[0], len(self.names))) < len(self.names):
                self.times[place] += 1
            else:
                small.append(seen[1])
                self.names.append(name)
                self.positions.append(self.read - 1)
                self.times.append(1)
        pixels = np.stack(small) if small else np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8)
        grey = pixels @ GREY
        kept = np.flatnonzero(grey.std(axis=(1, 2)) >= FLAT)
        self.usable.append(first + kept)
        self.hashes.append(perceptual_hash(grey[kept]))
        self.patches.append(_patches(pixels[kept]))

    def finished(self) -> Prints:
        """Return them all."""
        return Prints(
            names=self.names,
            digests=np.array(list(self.places), dtype=DIGEST),
            positions=np.array(self.positions, dtype=np.int64),
            times=np.array(self.times, dtype=np.int64),
            usable=np.concatenate([np.zeros(0, dtype=np.int64), *self.usable]),
            hashes=np.concatenate([np.zeros(0, dtype=np.uint64), *self.hashes]),
            patches=np.concatenate([np.zeros((0, 3 * PATCHES**2), dtype=np.uint8), *self.patches]),
            unreadable=self.unreadable,
        )


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """Return pHash uint64 `[n]` of grey pictures `[n, 32, 32]`."""
    low = dctn(grey, axes=(1, 2))[:, :LOW, :LOW].reshape(len(grey), LOW * LOW)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).ravel()


def _opened(load: Load) -> tuple[bytes, np.ndarray] | str:
    """Return a picture's digest and the picture at 32 x 32; or why it cannot be opened."""
    try:
        picture = load()
    except DataError as error:
        return str(error)
    digest = hashlib.blake2b(f"{picture.size}".encode(), digest_size=16)
    digest.update(picture.tobytes())
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return digest.hexdigest().encode(), np.asarray(small)


def _patches(pixels: np.ndarray) -> np.ndarray:
    """Return mean colours uint8 `[n, 768]` of pictures `[n, 32, 32, 3]`."""
    step = SIDE // PATCHES
    blocks = pixels.reshape(len(pixels), PATCHES, step, PATCHES, step, 3)
    sums = blocks.sum(axis=(2, 4), dtype=np.uint16)
    return ((sums + step**2 // 2) // step**2).astype(np.uint8).reshape(len(pixels), 3 * PATCHES**2)


def _blocks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    iterator = iter(pictures)
    while block := list(islice(iterator, BLOCK)):
        yield block
