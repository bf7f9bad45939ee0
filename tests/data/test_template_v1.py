"""LLaVA-1.5's template and masks, worked out by hand; `*` marks a supervised token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_tokenizer import SYSTEM, byte_level, processor, words_of, write_sentencepiece
from transformers import AutoTokenizer

from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.models.batches import IGNORE
from icons_repro.models.template import chat_template

IMAGE = ["<image>"] * 4


def record(*turns: str, images: int = 0) -> Record:
    speakers = ("human", "gpt")
    raw = {"conversations": [{"from": speakers[i % 2], "value": t} for i, t in enumerate(turns)]}
    return Record(0, "k", raw, ("x.png",) * images, "test")


def system() -> list[str]:
    """The system sentence: a word is `▁word`, a mark stands alone."""
    return ["<s>", *[w if w in ".,'" or w == "s" else f"▁{w}" for w in words_of(SYSTEM)]]


def tokens(row: Record, legacy: bool, max_length: int = 2048) -> list[str]:
    encoder = ConversationEncoder(processor("v1", legacy), max_length)
    encoded = encoder.encode(row)
    names = encoder.tokenizer.convert_ids_to_tokens(encoded.input_ids.tolist())
    on = encoded.labels != IGNORE
    assert np.array_equal(encoded.labels[on], encoded.input_ids[on])
    return [f"*{name}" if chosen else name for name, chosen in zip(names, on, strict=True)]


@pytest.fixture(params=[True, False], ids=["legacy", "not_legacy"])
def legacy(request: pytest.FixtureRequest) -> bool:
    return request.param


def later_user(legacy: bool) -> str:
    """After </s>, only the legacy tokenizer puts a space."""
    return "▁USER" if legacy else "USER"


def test_one_turn_with_an_image(legacy: bool) -> None:
    question = ["▁USER", ":", "▁", *IMAGE, "▁", "\n", *"what", "▁color", "?"]
    row = record("<image>\nwhat color?", "red", images=1)
    assert tokens(row, legacy) == [
        *system(), *question, "▁ASSISTANT", ":", "*▁red", "*</s>",
    ]  # fmt: skip


def test_an_image_at_the_end_of_the_question_moves_to_its_front(legacy: bool) -> None:
    first = record("<image>\nwhat color?", "red", images=1)
    last = record("what color?\n<image>", "red", images=1)
    assert tokens(first, legacy) == tokens(last, legacy)


def test_several_turns_each_answer_with_its_end_is_supervised(legacy: bool) -> None:
    row = record("what color", "red birds", "how many", "two")
    assert tokens(row, legacy) == [
        *system(), "▁USER", ":", "▁what", "▁color", "▁ASSISTANT", ":", "*▁red", "*▁birds", "*</s>",
        later_user(legacy), ":", "▁how", "▁many", "▁ASSISTANT", ":", "*▁two", "*</s>",
    ]  # fmt: skip


@pytest.mark.parametrize("opening", ["\n", "?", "\nred"])
def test_the_space_that_opens_an_answer_is_supervised_where_it_is_a_token(
    opening: str, legacy: bool
) -> None:
    """Words take it in, as `▁red`; before a line break, a digit, 中 or an emoji it stands alone."""
    found = tokens(record("is it", opening), legacy)
    answer = found[found.index("▁ASSISTANT") + 2 :]
    assert answer == ["*▁", *(f"*{c}" for c in opening.replace("red", "")), *answer[2:]]
    assert all(token.startswith("*") for token in answer)


def test_a_question_that_is_an_image_alone_has_no_line_break_and_two_spaces(legacy: bool) -> None:
    """As in LLaVA: it strips the turn, and sentencepiece puts a space before ` ASSISTANT`."""
    row = record("<image>", "red", images=1)
    question = ["▁USER", ":", "▁", *IMAGE, "▁", "▁ASSISTANT", ":"]
    assert tokens(row, legacy) == [*system(), *question, "*▁red", "*</s>"]


def test_a_question_without_text_is_its_role_alone(legacy: bool) -> None:
    found = tokens(record("", "red"), legacy)
    assert found[len(system()) :][:3] == ["▁USER", ":", "A"]


def test_a_row_without_image_has_no_image_token(legacy: bool) -> None:
    assert "<image>" not in tokens(record("is it", "red"), legacy)


def test_an_answer_without_text_has_no_end_and_is_not_supervised(legacy: bool) -> None:
    row = record("is it", "", "how many", "two")
    assert tokens(row, legacy) == [
        *system(), "▁USER", ":", "▁is", "▁it", "▁ASSISTANT", ":", "USER", ":",
        "▁how", "▁many", "▁ASSISTANT", ":", "*▁two", "*</s>",
    ]  # fmt: skip


def test_truncation_counts_expanded_images_and_may_cut_an_answer(legacy: bool) -> None:
    row = record("<image>\nwhat", "red birds fly south", images=1)
    whole = tokens(row, legacy)
    cut = tokens(row, legacy, max_length=len(whole) - 2)
    assert cut == whole[:-2]
    assert cut[-3:] == ["*▁red", "*▁birds", "*▁fly"]


def test_space_around_a_question_without_image_is_kept_and_with_image_is_not(legacy: bool) -> None:
    plain = tokens(record("how many ", "two"), legacy)
    assert plain[plain.index("▁many") + 1 :][:2] == ["▁", "▁ASSISTANT"]
    pictured = tokens(record("<image> how many ", "two", images=1), legacy)
    assert pictured[pictured.index("▁many") + 1] == "▁ASSISTANT"


def test_evaluation_asks_with_the_text_that_training_had(legacy: bool) -> None:
    p = processor("v1", legacy)
    parts = [{"type": "image"}, {"type": "text", "text": "what color"}]
    prompt = p.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    encoder = ConversationEncoder(p)
    text, _ = encoder.render(record("<image>\nwhat color", "red", images=1).conversations)
    assert text == f"{prompt} red</s>"


@pytest.mark.parametrize("legacy_file", [True, False])
def test_a_vicuna_folder_gives_the_ids_that_sentencepiece_gives_chunk_by_chunk(
    legacy_file: bool, tmp_path: Path
) -> None:
    """The oracle: text between special tokens, each chunk tokenised alone, as LLaVA's code does.

    After </s> the slow tokenizer of `legacy=false` adds no space; everywhere else both add one.
    """
    pieces = write_sentencepiece(tmp_path, legacy=legacy_file)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    p = processor("v1", tokenizer=tokenizer)
    encoder = ConversationEncoder(p)
    row = record("<image>\nwhat color?", "red birds", "how many", "two", images=1)
    ids = encoder.encode(row).input_ids
    later = pieces.encode("USER: how many ASSISTANT: two")
    if not legacy_file:
        bare = pieces.encode("\nUSER: how many ASSISTANT: two", out_type=str)
        assert bare[:2] == ["▁", "<0x0A>"]
        later = [pieces.piece_to_id(piece) for piece in bare[2:]]
    assert ids.tolist() == [
        pieces.bos_id(),
        *pieces.encode(f"{SYSTEM} USER: "),
        *[tokenizer.convert_tokens_to_ids("<image>")] * 4,
        *pieces.encode("\nwhat color? ASSISTANT: red birds"),
        pieces.eos_id(),
        *later,
        pieces.eos_id(),
    ]


CHATS = {
    "llama3": (
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"),
        "<s>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nwhat<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[red<|eot_id|>]"
        "<|start_header_id|>user<|end_header_id|>\n\nhow<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[two<|eot_id|>]",
    ),
    "qwen": (
        ("<|im_start|>", "<|im_end|>", "<image>"),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nwhat<|im_end|>\n"
        "<|im_start|>assistant\n[red<|im_end|>]\n"
        "<|im_start|>user\nhow<|im_end|>\n"
        "<|im_start|>assistant\n[two<|im_end|>]\n",
    ),
}


@pytest.mark.parametrize("name", CHATS)
def test_other_bases_speak_their_own_chat_format(name: str) -> None:
    extra, marked = CHATS[name]
    encoder = ConversationEncoder(processor(name, extra=extra))
    row = record("what<image>", "red", "how", "two", images=1)
    text, spans = encoder.render(row.conversations)
    assert text == marked.replace("[", "").replace("]", "")
    answers = [part.split("]")[0] for part in marked.split("[")[1:]]
    assert [text[start:end] for start, end in spans] == answers


def test_a_template_of_another_family_is_refused() -> None:
    from icons_repro.core.errors import DataError

    with pytest.raises(DataError, match=r"has no token '<\|im_start\|>'"):
        chat_template("qwen", processor("v1").tokenizer)


@pytest.mark.parametrize("name", CHATS)
def test_no_token_reaches_from_the_prompt_into_the_answer(name: str) -> None:
    """An answer that begins with a line break: evaluation's prompt ends with one, alone."""
    extra, _ = CHATS[name]
    p = processor(name, tokenizer=byte_level(extra))
    encoder = ConversationEncoder(p)
    encoded = encoder.encode(record("a", "\n\nb", "c", "\nd"))
    ids, on = encoded.input_ids.tolist(), encoded.labels != IGNORE
    told = p.tokenizer.decode(encoded.input_ids[on], skip_special_tokens=False)
    end = {"llama3": "<|eot_id|>", "qwen": "<|im_end|>"}[name]
    assert told == f"\n\nb{end}\nd{end}"
    asked = p.apply_chat_template([{"role": "user", "content": "a"}], add_generation_prompt=True)
    prompt = p.tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    assert on[len(prompt)]
    assert not on[: len(prompt)].any()
