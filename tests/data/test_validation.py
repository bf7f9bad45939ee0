"""Rows that LLaVA-1.5's own code trains on are taken, however odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable, build_records


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in pairs]}


EARLY = turns(("gpt", "hello"), ("human", "how many"), ("gpt", "2"))
TAKEN = {
    "the assistant speaks first": EARLY,
    "an image tag as text": turns(("human", "what is <image>?"), ("gpt", "<image> is a tag")),
    "two image tags as text": turns(("human", "<image> or <image>?"), ("gpt", "no")),
    "an empty image field": {**turns(("human", "<image>\nwhat"), ("gpt", "no")), "image": ""},
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_that_llava_takes_is_usable(name: str, tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text(json.dumps([TAKEN[name]]))
    build_records(tmp_path / "pool.json", tmp_path, tmp_path)
    record = RecordTable(tmp_path / "records.arrow")[0]
    assert record.images == ()
    assert record.conversations[0]["from"] == "human"
    assert dict(record.raw) == TAKEN[name], "the row itself is kept as it is"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (turns(("gpt", "hello")), "no_answer"),
        (turns(("gpt", "hello"), ("human", "how many")), "no_answer"),
        (turns(("gpt", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")), "turn_order"),
        (turns(("human", "a"), ("gpt", "b"), ("gpt", "d")), "turn_order"),
    ],
)
def test_a_row_without_an_answer_to_a_question_is_not(row: Any, reason: str) -> None:
    from icons_repro.data.validation import check_row

    problem = check_row(row, Path())
    assert problem is not None
    assert problem.reason == reason


@pytest.mark.parametrize(
    ("texts", "images", "asked"),
    [
        (["<image>\n<image> what", "it"], "a.png", 1),
        (["what <image> or <image>", "it"], ["a.png"], 1),
        (["<image>", "it", "<image>?", "that"], "a.png", 2),
        (["<image> or <image>", "it"], ["a.png", "b.png"], 2),
        (["<image>", "it"], ["a.png", "b.png"], 1),
    ],
)
def test_the_tags_of_a_turn_ask_for_one_image_where_the_row_has_one(
    texts: list[str], images: Any, asked: int
) -> None:
    """LLaVA puts one tag in their place; a second turn's would show it another row's image."""
    from icons_repro.data.validation import check_row, image_tags

    row = turns(*zip(("human", "gpt") * 2, texts, strict=False)) | {"image": images}
    assert image_tags(row) == asked
    problem = check_row(row, ImageFolder(Path(), RecordPolicy(check_images="none")))
    fits = asked == (1 if isinstance(images, str) else len(images))
    assert (problem is None) is fits
    if problem:
        assert problem.reason == "image_token_count"
