"""What the literal readings of the formulas share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from icons_repro.selection.base import canonical_order

SEEDS = range(4)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def with_features(pool, **features):
    return replace(pool, features={**pool.features, **features})


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / math.sqrt(x @ x) / math.sqrt(y @ y))


def in_key_order(pool, array) -> tuple[list[int], np.ndarray]:
    order = canonical_order(pool.keys).tolist()
    return order, np.asarray(array, dtype=np.float64)[order]


def gaussian(x, y, sigma=1.0) -> float:
    return math.exp(-((x - y) ** 2).sum() / (2 * sigma**2))
