"""Ids and labels are LLaVA-1.5's, with Llama's own vocabulary (tests/llava_preprocess.py).

The exceptions, argued in docs/decisions.md ("Labels are LLaVA-1.5's"): rows on which LLaVA's search
for the answers fails, so that it masks all of the row or other words than the answers. Ours finds
the answers by their place in the template and supervises them. Ids are LLaVA's here too.

- the last turn is a question, or an answer without text;
- a question has no text;
- a text says `ASSISTANT:`, or the name of one of the tokenizer's special tokens. (After such a name
  a space is one token less than LLaVA's with a `legacy` tokenizer: the one exception for ids.)

A row whose image does not fit into `max_length` is refused by name; LLaVA trains on part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_tokenizer import processor, write_llama_folder
from llama_vocabulary import llama_tokenizer_model
from llava_preprocess import (
    IMAGE,
    ROLES,
    SPECIALS,
    SlowLlamaTokenizer,
    get_prompt,
    preprocess,
    tokenizer_image_token,
)

from icons_repro.core.types import Record, dialogue
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.models.assemble import prepare_tokenizer
from icons_repro.models.batches import IGNORE

IMAGE_TOKENS = 4
Row = dict[str, Any]


class Both:
    """Ours and LLaVA's, on one vocabulary."""

    def __init__(self, model: Path, folder: Path, legacy: bool) -> None:
        write_llama_folder(folder, model, legacy)
        self.processor = processor("v1", tokenizer=prepare_tokenizer(folder))
        self.slow = SlowLlamaTokenizer(model, legacy)
        self.encoders = {n: ConversationEncoder(self.processor, n) for n in (2048, 120)}

    def ours(self, row: Row, max_length: int = 2048) -> tuple[list[int], list[int]]:
        encoder = self.encoders[max_length]
        images = ("x.png",) if "image" in row else ()
        encoded = encoder.encode(Record(0, "k", row, images, "test"))
        on = encoded.labels != IGNORE
        assert np.array_equal(encoded.labels[on], encoded.input_ids[on])
        ids = np.where(encoded.input_ids == encoder.image_id, IMAGE, encoded.input_ids)
        return ids.tolist(), encoded.labels.tolist()

    def llavas(self, row: Row, max_length: int = 2048) -> tuple[list[int], list[int]]:
        done = preprocess(row, self.slow, max_length, IMAGE_TOKENS)
        return done.ids.tolist(), done.labels.tolist()


@pytest.fixture(scope="module", params=[True, False], ids=["legacy", "not_legacy"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    model = llama_tokenizer_model()
    return Both(model, tmp_path_factory.mktemp("vicuna"), request.param)


def chat(*turns: str, image: bool = False, first: str = "human") -> Row:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    row: Row = {
        "conversations": [{"from": speakers[i % 2], "value": t} for i, t in enumerate(turns)]
    }
    return {**row, "image": "x.png"} if image else row


def excepted(row: Row) -> bool:
    """Whether LLaVA does not find this row's answers, for one of the reasons above."""
    turns = dialogue(row["conversations"])
    texts = [turn["value"] for turn in turns]
    questions = [turn["value"] for turn in turns if turn["from"] == "human"]
    names = ("ASSISTANT:", *SPECIALS)
    return (
        turns[-1]["from"] == "human"
        or not all([texts[-1], *questions])
        or any(name in text for text in texts for name in names)
    )


ANSWERS = [
    "red", "2", "42 birds", "3.14", "0", "1990s", "中文", "这是一只狗。", "日本語です", "한국어",
    "😀", "👍🏽 yes", "\nfirst line", "\n\n- a\n- b", " red", "  two spaces", "\t", "é", "naïve",
    "Ünïcödé", "(a)", "[0.1, 0.2]", "'quoted'", "-1", "$5", "<p>x</p>", "A", "Yes", "No.", " ",
    "def f(x):\n    return  x\n\n\n        y = 1", "a  b   c    d" + " " * 40 + "e", "tail ",
    "tail   ", "tail\n", "x" * 400, "١٢٣", "\u00a0nbsp", "\u200bzero width", "▁▁ ▁", "\x00",
    "USER: hi", "http://x.y/z?a=1&b=2", "```python\nprint( 1 )\n```", "1. one\n2. two", "…",
    "Привет", "\r\n1",
]  # fmt: skip
QUESTIONS = [
    "what color?", " spaced  question ", "\nA. 1\nB. 2\n", "问题？", "1", "code:\n x  =  1", "end ",
]  # fmt: skip


@pytest.mark.parametrize("image", [False, True], ids=["text", "image"])
@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_ids_and_labels_are_llavas(both: Both, answer: str, image: bool) -> None:
    for question in QUESTIONS:
        tag = "<image>\n" if image else ""
        for row in (
            chat(tag + question, answer, image=image),
            chat(tag + question, answer, question, "and 7", question, answer, image=image),
        ):
            assert both.ours(row) == both.llavas(row)


@pytest.mark.parametrize(
    "row",
    [
        chat("<image>", "2", image=True),
        chat("what <image> is it", "2", "and", "so", image=True),
        chat("what\n<image>", "red", image=True),
        chat("only text at first", "yes", "<image>\nnow?", "9", image=True),
        chat("no tag at all", "3", image=False) | {"image": "x.png"},
        chat("what does <image> mean?", "<image>\n is a tag", "<image>", "12"),
        chat("<image>\nin a chat", "without  a picture"),
        chat("I am early", "hello", "5", first="gpt"),
        chat("<image>\nshown too early", "what is it", "5", first="gpt") | {"image": "x.png"},
        chat("<image>\na", "", "b", "5", image=True),
        chat("a", "", "b", "", "c", "7"),
        chat("<image>\n<image>\nwhich", "2", image=True),
        chat("is <image> or <image> red?<image>", "red", "<no tag> here", "5", image=True),
        chat("<image><image>", "8", image=True),
    ],
    ids=range(14),
)
def test_ids_and_labels_are_llavas_where_tags_and_turns_stand_oddly(both: Both, row: Row) -> None:
    ours, llavas = both.ours(_shown(row)), both.llavas(row)
    assert ours == llavas
    assert any(label != IGNORE for label in ours[1])


def _shown(row: Row) -> Row:
    """The row without an image to which no tag points, as records.arrow has it."""
    text = "".join(turn["value"] for turn in dialogue(row["conversations"]))
    return row if "<image>" in text else {k: v for k, v in row.items() if k != "image"}


PIECES = st.one_of(
    st.sampled_from([a for a in ANSWERS if len(a) < 100]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0<"), max_size=8),
    st.sampled_from(" \n\t0123456789"),
)
TEXT = st.lists(PIECES, min_size=1, max_size=6).map("".join)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """One to three questions with answers; one row in ten has something of the exceptions."""
    turns = draw(st.lists(TEXT, min_size=2, max_size=6))
    odd = draw(st.sampled_from(["none"] * 9 + ["empty", "question", "name"]))
    if len(turns) % 2 == (odd != "question"):
        turns.append("more")
    if odd == "empty":
        turns[draw(st.integers(0, len(turns) - 1))] = ""
    elif odd == "name":
        turns[-1] += draw(st.sampled_from([" ASSISTANT: ", "</s>", "<unk>", "<s>x"]))
    image = draw(st.booleans())
    if image:
        places = ["<image>\n{}", "{}\n<image>", "{}<image> x", "<image>", "<image>{}<image>"]
        place = draw(st.sampled_from(places))
        turns[0] = place.replace("{}", turns[0])
    elif draw(st.booleans()):
        turns[0] += draw(st.sampled_from(["<image>", " <image>\n", "x<image>1"]))
    early = [draw(TEXT)] if draw(st.integers(0, 9)) == 0 else []
    return chat(*early, *turns, image=image, first="gpt" if early else "human")


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(row=rows(), max_length=st.sampled_from([2048, 2048, 120]))
def test_ids_are_llavas_for_any_conversation_and_labels_but_for_the_exceptions(
    both: Both, row: Row, max_length: int
) -> None:
    ids, labels = both.ours(row, max_length)
    expected, expected_labels = both.llavas(row, max_length)
    assert ids == expected
    if not excepted(row):
        assert labels == expected_labels


@pytest.mark.parametrize("image", [False, True], ids=["text", "image"])
def test_long_rows_are_cut_as_llava_cuts_them(both: Both, image: bool) -> None:
    tag = "<image>\n" if image else ""
    row = chat(tag + "count", " ".join(map(str, range(1500))), "go  on", "7", image=image)
    ids, labels = both.ours(row)
    assert len(ids) == 2048
    assert (ids, labels) == both.llavas(row)
    assert labels[-1] != IGNORE


@pytest.mark.parametrize("last", [["and then?"], ["and then?", ""]], ids=["question", "no_text"])
def test_a_row_that_ends_without_an_answer_keeps_the_labels_of_its_other_answers(
    both: Both, last: list[str]
) -> None:
    row, whole = chat("how many", "2", *last), chat("how many", "2")
    ids, labels = both.ours(row)
    assert ids == both.llavas(row)[0]
    _, answered = both.llavas(whole)
    assert labels == answered + [IGNORE] * (len(labels) - len(answered))
    assert set(both.llavas(row)[1]) == {IGNORE}


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(row=rows())
def test_the_prompt_of_evaluation_is_llavas_and_training_goes_on_from_it(
    both: Both, row: Row
) -> None:
    turns = list(dialogue(row["conversations"]))
    turns = turns[: len(turns) // 2 * 2]
    if not all(turn["value"] for turn in turns[::2]) or not turns[-1]["value"]:
        return
    row = {**row, "conversations": turns}
    pictured = "image" in row
    if not pictured and any("<image>" in turn["value"] for turn in turns):
        return  # a benchmark's question is never asked with a tag as text
    if any(turn["value"].count("<image>") > 1 for turn in turns):
        return  # nor with several tags for one picture
    encoder = both.encoders[2048]
    asked = both.processor.apply_chat_template(
        encoder.messages(turns[:-1], pictured), add_generation_prompt=True
    )
    assert asked.endswith("ASSISTANT:")
    expanded = asked.replace("<image>", "<image>" * IMAGE_TOKENS)
    ids = np.asarray(both.processor.tokenizer(expanded, add_special_tokens=False)["input_ids"])
    prompt = np.where(ids == encoder.image_id, IMAGE, ids).tolist()
    assert prompt == _asked_by_llava(both, encoder.messages(turns[:-1], pictured))
    trained, labels = both.ours(row)
    if len(trained) < 2048:
        assert trained[: len(prompt)] == prompt
        assert IGNORE not in labels[len(prompt) :]


def _asked_by_llava(both: Both, messages: list[dict[str, str]]) -> list[int]:
    """Ids that llava/eval/model_vqa_loader.py (lines 48-56) gives `generate`."""
    names = dict(zip(("user", "assistant"), ROLES.values(), strict=True))
    turns = [(names[message["role"]], message["content"]) for message in messages]
    ids = tokenizer_image_token(get_prompt([*turns, ("ASSISTANT", None)]), both.slow)
    repeats = [IMAGE_TOKENS if token == IMAGE else 1 for token in ids]
    return np.repeat(ids, repeats).tolist()
