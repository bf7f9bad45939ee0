"""Questions that a benchmark asks about a scene, and their answers.

`ask` draws one open question about a scene, `presence` a yes/no one, `choice` turns an open
question into one with options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icons_repro.tiny.realdata import EASY_COLORS
from icons_repro.tiny.scenes import (
    BAR_COLORS,
    COLUMNS,
    EASY_SHAPES,
    LETTERS,
    MAX_BAR,
    MAX_DOTS,
    RGB,
    ROWS,
    SHAPES,
    Scene,
)

YES_NO = ("yes", "no")
DOT_NUMBERS = tuple(str(n) for n in range(1, MAX_DOTS + 1))
BAR_NUMBERS = tuple(str(n) for n in range(1, MAX_BAR + 1))
DIGITS = tuple(str(n) for n in range(10))


@dataclass(frozen=True)
class Question:
    """A question about a scene, with its answer and the answers somebody might give."""

    text: str
    answer: str
    choices: tuple[str, ...]
    """Plausible answers, the right one among them: wrong labels and options come from here."""

    def mislabelled(self, rng: np.random.Generator) -> Question:
        """Return the question with a plausible wrong answer."""
        wrong = [choice for choice in self.choices if choice != self.answer]
        return replace(self, answer=pick(wrong, rng))


def ask(scene: Scene, rng: np.random.Generator) -> Question:
    """Draw one open question about a scene."""
    return _ASKERS[scene.kind](scene, rng)


def presence(scene: Scene, text: str) -> Question:
    """Answer one of `PRESENCE_TEXTS[scene.kind]` with yes or no."""
    return Question(text, "yes" if _HOLDS[scene.kind](scene, text) else "no", YES_NO)


def choice(question: Question, rng: np.random.Generator) -> Question:
    """Add three options, the right one among them, as "... a or b or c"."""
    wrong = [option for option in question.choices if option != question.answer]
    chosen = [wrong[i] for i in rng.permutation(len(wrong))[:2]]
    options = tuple(str(o) for o in rng.permutation([question.answer, *chosen]))
    return Question(f"{question.text} {' or '.join(options)}", question.answer, options)


def stem_and_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a question into its stem and its options, `()` where it offers none."""
    stem, _, tail = text.partition("?")
    options = tuple(option.strip() for option in tail.split(" or ")) if tail.strip() else ()
    return f"{stem}?", options


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of the options."""
    return options[int(rng.integers(0, len(options)))]


def _ask_dots(scene: Scene, rng: np.random.Generator) -> Question:
    counts: dict[str, int] = scene.facts["counts"]
    first, second = counts
    if rng.random() < 0.25 and counts[first] != counts[second]:
        templates: tuple[str, ...] = (
            "which color has more dots?",
            "are there more dots in {0} or {1}?",
        )
        most = max(counts, key=lambda color: counts[color])
        return Question(pick(templates, rng).format(*sorted(counts)), most, (first, second))
    color = pick((first, second), rng)
    templates = (
        "how many {0} dots are there?",
        "what is the number of {0} dots?",
        "how many dots are {0}?",
    )
    return Question(pick(templates, rng).format(color), str(counts[color]), DOT_NUMBERS)


def _ask_spatial(scene: Scene, rng: np.random.Generator) -> Question:
    item = scene.facts["items"][int(rng.integers(0, 2))]
    kind = int(rng.integers(0, 4))
    if kind == 0:
        templates: tuple[str, ...] = (
            "is the {0} at the top or bottom?",
            "is the {0} in the top or bottom half?",
        )
        return Question(pick(templates, rng).format(item["shape"]), item["row"], ROWS)
    if kind == 1:
        templates = ("is the {0} on the left or right?", "is the {0} in the left or right half?")
        return Question(pick(templates, rng).format(item["shape"]), item["column"], COLUMNS)
    if kind == 2:
        templates = ("what color is the {0}?", "what is the color of the {0}?")
        return Question(pick(templates, rng).format(item["shape"]), item["color"], tuple(RGB))
    templates = ("what is the {0} shape?", "which shape is {0}?", "what {0} object is shown?")
    return Question(pick(templates, rng).format(item["color"]), item["shape"], SHAPES)


def _ask_bars(scene: Scene, rng: np.random.Generator) -> Question:
    bars: dict[str, int] = scene.facts["bars"]
    if rng.random() < 0.4:
        extreme, words = (max, "highest") if rng.random() < 0.5 else (min, "lowest")
        color = extreme(bars, key=lambda c: bars[c])
        templates: tuple[str, ...] = ("which bar is the {0}?", "what color is the {0} bar?")
        return Question(pick(templates, rng).format(words), color, BAR_COLORS)
    color = pick(BAR_COLORS, rng)
    templates = (
        "what is the value of the {0} bar?",
        "how high is the {0} bar?",
        "what value does {0} have?",
    )
    return Question(pick(templates, rng).format(color), str(bars[color]), BAR_NUMBERS)


def _ask_text(scene: Scene, rng: np.random.Generator) -> Question:
    letters: list[str] = scene.facts["letters"]
    if rng.random() < 0.25:
        templates: tuple[str, ...] = ("what does the text say?", "what is written here?")
        others = [" ".join(pick(LETTERS, rng) for _ in range(3)) for _ in range(3)]
        answer = " ".join(letters)
        return Question(pick(templates, rng), answer, tuple(dict.fromkeys([answer, *others])))
    place = int(rng.integers(0, 3))
    ordinal = ("first", "second", "last")[place]
    templates = ("what is the {0} letter?", "which letter comes {0}?", "what letter is {0}?")
    return Question(pick(templates, rng).format(ordinal), letters[place], LETTERS)


def _ask_shape(scene: Scene, rng: np.random.Generator) -> Question:
    asked: tuple[tuple[str, str], ...] = scene.facts["questions"]
    text, answer = asked[int(rng.integers(0, len(asked)))]
    return Question(text, answer, EASY_COLORS if answer in EASY_COLORS else EASY_SHAPES)


def _ask_digit(scene: Scene, rng: np.random.Generator) -> Question:
    digit = int(scene.facts["digit"])
    if rng.random() < 0.25:
        templates: tuple[str, ...] = ("is the digit even or odd?", "is this number even or odd?")
        return Question(pick(templates, rng), ("even", "odd")[digit % 2], ("even", "odd"))
    templates = ("what digit is shown?", "which number is this?", "what digit is written here?")
    return Question(pick(templates, rng), str(digit), DIGITS)


_ASKERS: dict[str, Callable[[Scene, np.random.Generator], Question]] = {
    "dots": _ask_dots,
    "spatial": _ask_spatial,
    "bars": _ask_bars,
    "text": _ask_text,
    "shape": _ask_shape,
    "digit": _ask_digit,
}

PRESENCE_TEXTS: dict[str, tuple[str, ...]] = {
    "shape": tuple(f"is there a {color} shape?" for color in EASY_COLORS)
    + tuple(f"is there a {shape}?" for shape in EASY_SHAPES),
    "dots": tuple(f"are there any {color} dots?" for color in RGB),
    "digit": tuple(f"is this a {digit}?" for digit in DIGITS),
}
"""Yes/no questions about each kind of scene; each is asked equally often with yes and with no."""


def _last_words(text: str) -> list[str]:
    return text.rstrip("?").split()


_HOLDS: dict[str, Callable[[Scene, str], bool]] = {
    "shape": lambda s, t: bool({s.facts["color"], s.facts["shape"]} & set(_last_words(t)[3:])),
    "dots": lambda s, t: _last_words(t)[3] in s.facts["counts"],
    "digit": lambda s, t: int(_last_words(t)[3]) == s.facts["digit"],
}
