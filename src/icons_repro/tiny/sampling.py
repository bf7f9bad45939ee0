"""Draw scenes that belong to a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icons_repro.tiny.realdata import (
    digit_pictures,
    digit_scene,
    shape_pictures,
    shape_scene,
)
from icons_repro.tiny.scenes import RENDERERS, Renderer, Scene, lone_shape
from icons_repro.tiny.streams import Split, split_of

KINDS = ("shape", "digit", "dots", "spatial", "bars", "text")
"""Kinds of scene; the first two are real pictures."""


class Sampler:
    """An endless supply of scenes of one split."""

    def __init__(self, split: Split, rng: np.random.Generator, imitate: float = 0.0) -> None:
        """Draw from `rng`; a share `imitate` of the "shape" scenes is rendered, not real."""
        self._imitate = imitate
        self._split = split
        self._rng = rng
        self._decks: dict[str, Iterator[int]] = {}

    def draw(self, kind: str) -> Scene:
        """Draw one scene; real pictures are dealt from a shuffled deck, anew when it is empty."""
        if kind == "shape" and self._rng.random() < self._imitate:
            return self._render(lone_shape)
        if kind == "shape":
            pictures = shape_pictures(self._split)
            return shape_scene(pictures[self._deal(kind, len(pictures))])
        if kind == "digit":
            scans = digit_pictures(self._split)
            return digit_scene(*scans[self._deal(kind, len(scans))], self._rng)
        return self._render(RENDERERS[kind])

    def _render(self, renderer: Renderer) -> Scene:
        while True:
            scene = renderer(self._rng)
            if split_of(scene.split_pixels) == self._split:
                return scene

    def _deal(self, kind: str, size: int) -> int:
        if (card := next(self._decks.get(kind, iter(())), None)) is None:
            self._decks[kind] = iter(self._rng.permutation(size).tolist())
            card = next(self._decks[kind])
        return card
