"""Questions are answered by what the picture shows."""

from __future__ import annotations

import numpy as np
import pytest

from icons_repro.tiny.benchmarks import TASKS, Task, make_rows
from icons_repro.tiny.blind import BlindAnswerer
from icons_repro.tiny.captions import caption, facts
from icons_repro.tiny.questions import (
    PRESENCE_TEXTS,
    Question,
    ask,
    choice,
    presence,
    stem_and_options,
)
from icons_repro.tiny.realdata import digit_pictures, shape_pictures
from icons_repro.tiny.sampling import KINDS, Sampler
from icons_repro.tiny.scenes import RENDERERS, RGB, Scene
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.streams import SPLIT_SIXTEENTHS, split_of, stream

BLANK = np.zeros((32, 32, 3), dtype=np.uint8)
BARS = Scene("bars", BLANK, {"bars": {"red": 2, "green": 7, "blue": 1, "yellow": 4}}, BLANK)
DOTS = Scene("dots", BLANK, {"counts": {"red": 3, "blue": 1}}, BLANK)


@pytest.mark.parametrize(
    ("scene", "text", "answer"),
    [
        (DOTS, "are there any blue dots?", "yes"),
        (DOTS, "are there any teal dots?", "no"),
    ],
)
def test_presence_is_answered_from_the_facts(scene: Scene, text: str, answer: str) -> None:
    assert text in PRESENCE_TEXTS[scene.kind]
    assert presence(scene, text).answer == answer


def test_open_questions_about_known_scenes_have_known_answers() -> None:
    rng = np.random.default_rng(0)
    asked = {(q.text, q.answer) for _ in range(200) for q in (ask(BARS, rng), ask(DOTS, rng))}
    answers = dict(asked)
    assert len(answers) == len(asked)
    assert answers["which bar is the highest?"] == "green"
    assert answers["which bar is the lowest?"] == "blue"
    assert answers["how high is the yellow bar?"] == "4"
    assert answers["how many red dots are there?"] == "3"
    assert answers["which color has more dots?"] == "red"


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_labels_are_wrong_and_options_hold_the_answer(kind: str) -> None:
    sampler, rng = Sampler("pool", stream(3, kind)), stream(4, kind)
    for _ in range(50):
        question = ask(sampler.draw(kind), rng)
        assert question.answer in question.choices
        assert question.mislabelled(rng).answer != question.answer
        if len(question.choices) > 2:
            offered = choice(question, rng)
            stem, options = stem_and_options(offered.text)
            assert stem == question.text
            assert offered.answer in options
            assert len(set(options)) == 3


@pytest.mark.parametrize("kind", ["dots", "bars"])
def test_rendered_pixels_show_the_colours_of_the_facts(kind: str) -> None:
    scene = RENDERERS[kind](np.random.default_rng(1))
    stated = set(scene.facts["counts" if kind == "dots" else "bars"])
    drawn = {tuple(pixel) for pixel in scene.pixels.reshape(-1, 3).tolist()}
    assert {name for name, rgb in RGB.items() if rgb in drawn} == stated


def test_bars_are_as_high_as_stated() -> None:
    scene = RENDERERS["bars"](np.random.default_rng(2))
    for color, height in scene.facts["bars"].items():
        column = (scene.pixels == RGB[color]).all(axis=2).any(axis=1)
        assert column.sum() == 4 * height


def test_captions_and_facts_agree_with_the_scene() -> None:
    assert caption(BARS) == "bars red 2 green 7 blue 1 yellow 4"
    told = dict(facts(DOTS, np.random.default_rng(0)))
    assert told["focus red number"] == "3"
    assert told["focus more"] == "red"


def test_real_pictures_are_divided_among_the_splits() -> None:
    splits = tuple(SPLIT_SIXTEENTHS)
    shapes = [{p.pixels.tobytes() for p in shape_pictures(split)} for split in splits]
    digits = [{scan.tobytes() for scan, _ in digit_pictures(split)} for split in splits]
    for parts, total in ((shapes, 4000), (digits, 1790)):
        assert len(set.union(*parts)) == sum(len(part) for part in parts) > total
        assert min(len(part) for part in parts) > 150


def test_split_depends_on_pixels_alone_and_uses_its_share() -> None:
    rng = np.random.default_rng(5)
    splits = [split_of(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(4000)]
    for split, sixteenths in SPLIT_SIXTEENTHS.items():
        assert splits.count(split) / 4000 == pytest.approx(sixteenths / 16, abs=0.03)
    assert split_of(BLANK) == split_of(BLANK.copy())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_benchmarks_ask_about_test_pictures_only_and_never_twice(task: Task) -> None:
    drafts = make_rows(task, "test", 30, WorldSettings())
    assert len(drafts) == 30
    assert len({(d.pixels.tobytes(), d.turns[0].text) for d in drafts}) == 30
    rendered = [d for d in drafts if d.skill != "digit"]
    assert {split_of(d.pixels) for d in rendered} == {"test"}


def test_blind_answers_come_from_the_question_text_alone() -> None:
    pool = [Question("how many?", a, ()) for a in ("2", "2", "3")] + [Question("who?", "me", ())]
    blind = BlindAnswerer(pool, [Question("is it?", "no", ())])
    assert blind.answer("how many?") == "2"
    assert blind.answer("how many? 3 or 4 or 5") == "3"
    assert blind.answer("never seen?") == "no"
    test = [Question("how many?", "2", ()), Question("how many?", "4", ())]
    assert blind.score(test) == 0.5
