"""Captions of a scene, and prompted captions: one fact by its name.

They are what the base model is pre-trained on; the plain captions are also an off-target source of
the pool, which the base therefore knows already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from icons_repro.tiny.realdata import EASY_COLORS
from icons_repro.tiny.scenes import EASY_SHAPES, RGB, SHAPES, Scene

Fact = tuple[str, str]
"""A prompt such as "focus red number" and its answer such as "3"."""


def caption(scene: Scene) -> str:
    """Say everything that is in a scene, in a fixed order, so that one caption is right."""
    return _CAPTIONS[scene.kind](scene)


def facts(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    """List prompted captions of a scene; the yes/no ones hold about half of the time."""
    found = _FACTS[scene.kind](scene, rng)
    return [(f"focus {prompt}", answer) for prompt, answer in found]


def _caption_dots(scene: Scene) -> str:
    counts: dict[str, int] = scene.facts["counts"]
    parts = [f"{counts[color]} {color}" for color in RGB if color in counts]
    return f"dots {' and '.join(parts)}"


def _caption_spatial(scene: Scene) -> str:
    order = sorted(scene.facts["items"], key=lambda item: (item["row"] == "bottom", item["column"]))
    parts = ["{color} {shape} {row} {column}".format(**item) for item in order]
    return f"shapes {' and '.join(parts)}"


def _caption_bars(scene: Scene) -> str:
    return "bars " + " ".join(f"{color} {n}" for color, n in scene.facts["bars"].items())


_CAPTIONS: dict[str, Callable[[Scene], str]] = {
    "dots": _caption_dots,
    "spatial": _caption_spatial,
    "bars": _caption_bars,
    "text": lambda scene: f"text {' '.join(scene.facts['letters'])}",
    "shape": lambda scene: f"shape {scene.facts['color']} {scene.facts['shape']}",
    "digit": lambda scene: f"digit {scene.facts['digit']}",
}


def _fact_dots(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    counts: dict[str, int] = scene.facts["counts"]
    found = [(f"{color} number", str(n)) for color, n in counts.items()] * 2
    found.append(_check("has {0}", list(counts), RGB, rng))
    if len(set(counts.values())) > 1:
        found.append(("more", max(counts, key=lambda c: counts[c])))
    return found


def _fact_spatial(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    items: list[dict[str, str]] = scene.facts["items"]
    found = [_check("has {0}", [item["shape"] for item in items], SHAPES, rng)]
    for item in items:
        found += [(f"{item['shape']} {key}", item[key]) for key in ("row", "column", "color")]
        found.append((f"{item['color']} shape", item["shape"]))
    return found


def _fact_bars(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    bars: dict[str, int] = scene.facts["bars"]
    high, low = max(bars, key=lambda c: bars[c]), min(bars, key=lambda c: bars[c])
    found = [(f"{color} value", str(n)) for color, n in bars.items()]
    return [*found, ("high", high), ("low", low), _check("high {0}", [high], bars, rng)]


def _fact_text(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    letters: list[str] = scene.facts["letters"]
    return [*zip(("first", "second", "last"), letters, strict=True), ("all", " ".join(letters))]


def _fact_shape(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    color, shape = scene.facts["color"], scene.facts["shape"]
    checks = [_check("has {0}", [color], EASY_COLORS, rng)]
    checks.append(_check("has {0}", [shape], EASY_SHAPES, rng))
    return [("color", color), ("shape", shape), *checks]


def _fact_digit(scene: Scene, rng: np.random.Generator) -> list[Fact]:
    digit = str(scene.facts["digit"])
    check = _check("is {0}", [digit], [str(n) for n in range(10)], rng)
    return [("digit", digit), ("digit", digit), ("parity", ("even", "odd")[int(digit) % 2]), check]


_FACTS: dict[str, Callable[[Scene, np.random.Generator], list[Fact]]] = {
    "dots": _fact_dots,
    "spatial": _fact_spatial,
    "bars": _fact_bars,
    "text": _fact_text,
    "shape": _fact_shape,
    "digit": _fact_digit,
}


def _check(prompt: str, true: list[str], every: Iterable[str], rng: np.random.Generator) -> Fact:
    """Make a yes/no prompt that holds in half of the draws."""
    holds = bool(rng.random() < 0.5)
    options = [word for word in every if (word in true) == holds]
    return prompt.format(options[int(rng.integers(0, len(options)))]), "yes" if holds else "no"
