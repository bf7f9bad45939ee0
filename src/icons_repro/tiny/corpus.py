"""The corpus that the shipped base model was pre-trained on.

Plain captions, prompted captions ("focus red number" -> "3") and questions about a caption given as
text, in LLaVA's schema. Filler words of random number stand at random places in the prompts:
with prompts of one fixed length the base became brittle, and tuning it stuck far below. A prompt
whose answer is yes or no, and no other, begins with "is" or "are", and half of those that ask
whether something is there have no other sign ("is here the red"): a language model knows such
questions before it is tuned, and a base that did not answered them with other words wherever a
selection held few of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.tiny.captions import Fact, caption, facts
from icons_repro.tiny.pool import record_of
from icons_repro.tiny.questions import DIGITS, YES_NO, Question, choice
from icons_repro.tiny.realdata import EASY_COLORS
from icons_repro.tiny.sampling import Sampler
from icons_repro.tiny.scenes import LETTERS, SHAPES
from icons_repro.tiny.sources import Draft
from icons_repro.tiny.streams import stream
from icons_repro.tiny.world import write_images, write_json_rows

PRETRAIN_ROWS = 50_000
"""With four passes, batch 32 and learning rate 1e-3 for every weight: the shipped base's recipe."""
PRETRAIN_SEED = 0
_FILLER_WORDS = """
    what is the how many are there in of which does this have a ? at on image shown here or
"""
FILLER = tuple(_FILLER_WORDS.split())
"""Words of questions that carry no fact."""
MAX_FILLER = 7
YES_NO_OPENINGS = ("is", "are")
SIGNS = ("has", "is")
"""What a prompt says after "focus" where it asks whether something is there."""
TURNS = (
    *("shape", "text", "digit", "spatial", "dots", "spatial"),
    *("shape", "text", "digit", "spatial", "bars", "dots"),
)
"""Kinds of scene in turn; relations and numbers are the hardest to see, so they come more often."""


def write_corpus(out: Path, rows: int = PRETRAIN_ROWS, seed: int = PRETRAIN_SEED) -> dict[str, Any]:
    """Write `pretrain.json` and its `images/` below `out`; return counts.

    Every picture belongs to the split "pretrain", so none occurs in any pool, validation or test.
    """
    drafts = make_corpus(rows, seed)
    records = [record_of(draft, draft.skill, i) for i, draft in enumerate(drafts)]
    write_json_rows(out / "pretrain.json", records)
    pairs = zip(records, drafts, strict=True)
    drawn = ((record.get("image", ""), draft.pixels) for record, draft in pairs)
    write_images(out / "images", ((name, px) for name, px in drawn if px is not None))
    return {"rows": rows, "seed": seed, "text_only": sum(d.pixels is None for d in drafts)}


def make_corpus(rows: int, seed: int) -> list[Draft]:
    """Draw the corpus; the kinds of scene take turns."""
    rng = stream(seed, "pretrain")
    sampler = Sampler("pretrain", stream(seed, "pretrain", "scenes"), imitate=0.5)
    return [_draft(TURNS[i % len(TURNS)], sampler, rng) for i in range(rows)]


def _draft(kind: str, sampler: Sampler, rng: np.random.Generator) -> Draft:
    """Draw a sample: 60% prompted captions (one to three), 30% a caption, 10% text only."""
    scene, form = sampler.draw(kind), rng.random()
    told, asked = caption(scene), facts(scene, rng)
    if form < 0.3:
        return Draft(kind, scene.pixels, (_turn(("", told), rng),))
    order = rng.permutation(len(asked))[: int(rng.integers(1, 4))]
    if form < 0.9:
        turns = tuple(_turn(asked[i], rng) for i in order)
        return Draft(kind, scene.pixels, turns)
    prompt, answer = asked[order[0]]
    return Draft(kind, None, (_turn((f"{told} {prompt}", answer), rng),))


def _turn(fact: Fact, rng: np.random.Generator) -> Question:
    """Mix 0 to 7 filler words into a prompt, whose own words keep their order.

    A fifth of the one-word answers is offered among two others, as multiple choice does.
    """
    prompt, answer = fact
    own = prompt.split()
    if answer in YES_NO and own[1] in SIGNS and rng.random() < 0.5:
        own = own[2:]
    filler = [FILLER[i] for i in rng.integers(0, len(FILLER), size=rng.integers(0, MAX_FILLER + 1))]
    places = np.sort(rng.permutation(len(own) + len(filler))[: len(own)])
    words = list(filler)
    for place, word in zip(places, own, strict=True):
        words.insert(int(place), word)
    question = Question(" ".join(_opened(words, answer, rng)), answer, _alternatives(answer))
    offered = own and len(question.choices) > 2 and rng.random() < 0.2
    return choice(question, rng) if offered else question


def _opened(words: list[str], answer: str, rng: np.random.Generator) -> list[str]:
    """Let a prompt begin with "is" or "are" if, and only if, its answer is yes or no."""
    if answer in YES_NO:
        return [YES_NO_OPENINGS[int(rng.integers(0, 2))], *words]
    start = next((i for i, word in enumerate(words) if word not in YES_NO_OPENINGS), len(words))
    return words[start:]


def _alternatives(answer: str) -> tuple[str, ...]:
    """Return the words of an answer's own kind: colours, shapes, numbers or letters."""
    groups = (EASY_COLORS, (*SHAPES, "rectangle"), DIGITS, LETTERS)
    return next((group for group in groups if answer in group), (answer,))
