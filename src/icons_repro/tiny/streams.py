"""Named random streams, and the split that an image belongs to."""

from __future__ import annotations

import hashlib
from typing import Literal
from zlib import crc32

import numpy as np

Split = Literal["pretrain", "pool", "validation", "test"]

SPLIT_SIXTEENTHS: dict[Split, int] = {"pretrain": 5, "pool": 6, "validation": 2, "test": 3}
"""How many sixteenths of all possible images each split owns."""


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of one named purpose; streams of other names are independent of it."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def image_digest(pixels: np.ndarray) -> str:
    """Return the hash of an image's content, uint8 `[H, W, 3]`: 32 hexadecimal characters."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def split_of(pixels: np.ndarray) -> Split:
    """Return the only split that an image may appear in, decided by its pixels alone.

    Two equal pictures fall into the same split however they were drawn, so pre-training, pool,
    validation and test can never share one, at any seed.
    """
    bucket = int(image_digest(pixels)[0], 16)
    for split, width in SPLIT_SIXTEENTHS.items():
        if bucket < width:
            return split
        bucket -= width
    raise AssertionError("the sixteenths of SPLIT_SIXTEENTHS must sum to 16")


def question_digest(image: str, question: str) -> str:
    """Return the hash of a question about an image; `image` is its digest, "" for text only."""
    return hashlib.blake2b(f"{image}\n{question}".encode(), digest_size=16).hexdigest()
