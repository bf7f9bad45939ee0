"""The sources of the pool, in the order of their blocks; each makes rows of one kind.

Six picture sources, a yes/no one and a multiple-choice one practise what the benchmarks ask. The
others are what a large instruction mixture also holds: captions, near-duplicates, background
tints, and text-only arithmetic, copying and chat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from icons_repro.tiny.captions import caption
from icons_repro.tiny.questions import (
    PRESENCE_TEXTS,
    YES_NO,
    Question,
    ask,
    choice,
    pick,
    presence,
)
from icons_repro.tiny.sampling import KINDS, Sampler
from icons_repro.tiny.scenes import LETTERS, TINTS, Scene, tinted


@dataclass(frozen=True)
class Draft:
    """A row before it has a place: its picture, its turns, what it practises."""

    skill: str
    pixels: np.ndarray | None
    """uint8 `[32, 32, 3]`, or None for a text-only row."""
    turns: tuple[Question, ...]


ECHOED_SCENES = 40
"""How many different scenes the near-duplicates show."""

Maker = Callable[[Sampler, np.random.Generator], Draft]


@dataclass(frozen=True)
class Source:
    """One block of the pool."""

    name: str
    weight: float
    """Share of the target-serving (or of the other) rows."""
    on_target: bool
    make: Maker


def draw_presence(kind: str, sampler: Sampler, rng: np.random.Generator) -> Draft:
    """Draw a yes/no question of a kind, then a scene whose answer is a fair coin's."""
    texts = PRESENCE_TEXTS[kind]
    text, wanted = texts[int(rng.integers(0, len(texts)))], YES_NO[int(rng.integers(0, 2))]
    return presence_with(kind, text, wanted, sampler)


def presence_with(kind: str, text: str, wanted: str, sampler: Sampler) -> Draft:
    """Draw a scene for which the yes/no question has the wanted answer."""
    while True:
        scene = sampler.draw(kind)
        if (question := presence(scene, text)).answer == wanted:
            return Draft(kind, scene.pixels, (question,))


def _questions(kind: str, sampler: Sampler, rng: np.random.Generator) -> Draft:
    """Ask one to three different questions about one scene."""
    scene, wanted = sampler.draw(kind), int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    asked: dict[str, Question] = {}
    for _ in range(wanted):
        question = ask(scene, rng)
        asked.setdefault(question.text, question)
    return Draft(kind, scene.pixels, tuple(asked.values()))


def _asker(kind: str) -> Maker:
    return lambda sampler, rng: _questions(kind, sampler, rng)


def _presence(sampler: Sampler, rng: np.random.Generator) -> Draft:
    kinds = tuple(PRESENCE_TEXTS)
    return draw_presence(kinds[int(rng.integers(0, len(kinds)))], sampler, rng)


def _choice(sampler: Sampler, rng: np.random.Generator) -> Draft:
    kind = KINDS[int(rng.integers(0, len(KINDS)))]
    return draw_choice(kind, sampler, rng)


def draw_choice(kind: str, sampler: Sampler, rng: np.random.Generator) -> Draft:
    """Draw a question of a kind with three options."""
    while True:
        scene = sampler.draw(kind)
        question = ask(scene, rng)
        if len(question.choices) > 2 and question.text.count(" or ") == 0:
            return Draft(kind, scene.pixels, (choice(question, rng),))


def _describe(sampler: Sampler, rng: np.random.Generator) -> Draft:
    scene = sampler.draw(pick(KINDS, rng))
    prompts = ("describe the image", "what do you see here?", "tell me about the image")
    return _told("describe", scene, pick(prompts, rng))


def _echo(sampler: Sampler, rng: np.random.Generator) -> Draft:
    """Caption one of very few scenes, its brightness changed a little: a near-duplicate."""
    few = np.random.default_rng(int(rng.integers(0, ECHOED_SCENES)))
    scene = Sampler("pool", few).draw(pick(("dots", "spatial", "bars", "text"), few))
    shifted = np.clip(scene.pixels.astype(np.int16) - rng.integers(0, 16), 0, 255)
    near = Scene(scene.kind, shifted.astype(np.uint8), scene.facts, scene.pixels)
    return _told("echo", near, pick(("give a short caption", "write a caption"), rng))


def _tint(sampler: Sampler, rng: np.random.Generator) -> Draft:
    scene = sampler.draw(pick(("dots", "spatial", "bars", "text"), rng))
    tint = pick(tuple(TINTS), rng)
    prompts = ("what is the background color?", "what color is behind the objects?")
    question = Question(pick(prompts, rng), tint, tuple(TINTS))
    return Draft("tint", tinted(scene, tint), (question,))


def _arithmetic(sampler: Sampler, rng: np.random.Generator) -> Draft:
    a, b = sorted(rng.integers(0, 11, size=2).tolist(), reverse=True)
    text, answer = (f"{a} plus {b}", a + b) if rng.random() < 0.5 else (f"{a} minus {b}", a - b)
    return _text_only("arithmetic", f"what is {text}?", str(answer))


def _copy(sampler: Sampler, rng: np.random.Generator) -> Draft:
    letters = [pick(LETTERS, rng) for _ in range(int(rng.integers(3, 7)))]
    if rng.random() < 0.5:
        return _text_only("copy", f"copy {' '.join(letters)}", " ".join(letters))
    return _text_only("copy", f"reverse {' '.join(letters)}", " ".join(reversed(letters)))


_CHAT = (
    ("hello how are you?", "i am fine thank you"),
    ("who are you?", "i am a small model"),
    ("can you help me?", "yes i can help you"),
    ("tell me a story", "there is a small cat and a big dog"),
    ("what do you like?", "i like to read and write"),
    ("thank you", "you are welcome"),
    ("how is the weather?", "the weather is fine here"),
    ("good night", "good night to you"),
)


def _chat(sampler: Sampler, rng: np.random.Generator) -> Draft:
    turns = rng.permutation(len(_CHAT))[: int(rng.integers(1, 4))]
    return Draft("chat", None, tuple(Question(*_CHAT[i], (_CHAT[i][1],)) for i in turns))


def _told(skill: str, scene: Scene, prompt: str) -> Draft:
    told = caption(scene)
    return Draft(skill, scene.pixels, (Question(prompt, told, (told,)),))


def _text_only(skill: str, prompt: str, answer: str) -> Draft:
    return Draft(skill, None, (Question(prompt, answer, (answer,)),))


SOURCES: tuple[Source, ...] = (
    Source("describe", 0.24, False, _describe),
    Source("easyvqa", 0.14, True, _asker("shape")),
    Source("counting", 0.16, True, _asker("dots")),
    Source("choices", 0.12, True, _choice),
    Source("tints", 0.18, False, _tint),
    Source("spatial", 0.12, True, _asker("spatial")),
    Source("presence", 0.22, True, _presence),
    Source("letters", 0.08, True, _asker("text")),
    Source("echoes", 0.16, False, _echo),
    Source("digits", 0.09, True, _asker("digit")),
    Source("charts", 0.10, True, _asker("bars")),
    Source("arithmetic", 0.14, False, _arithmetic),
    Source("copying", 0.14, False, _copy),
    Source("chat", 0.14, False, _chat),
)
"""Blocks in pool order; the text-only ones stand last, as ShareGPT does in LLaVA-665K."""
