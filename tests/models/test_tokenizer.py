"""A tokenizer that is made from `tokenizer.model` cuts text as sentencepiece does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_tokenizer import byte_level, write_llama_folder
from llama_vocabulary import llama_tokenizer_model
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from icons_repro.models.tokenizer import load_tokenizer, merge_by_score, without_token
from icons_repro.tiny.model import write_tiny_base


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    write_llama_folder(folder, llama_tokenizer_model(), legacy=True)
    return folder


@pytest.fixture(scope="module")
def pieces(llama: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(llama / "tokenizer.model"))


@pytest.fixture(scope="module")
def tokenizer(llama: Path) -> Any:
    return load_tokenizer(llama)


def test_runs_of_spaces_of_any_length_are_cut_as_sentencepiece_cuts_them(
    tokenizer: Any, pieces: SentencePieceProcessor
) -> None:
    for n in range(1, 60):
        for after in ("y", "7", "中", "\n", ""):
            text = f"x{' ' * n}{after}"
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == pieces.encode(text)


WORDS = st.sampled_from(
    ["a", "b", "ab", "aa", "the", "then", "--", "==", "...", "00", "12", "\n", "\t", "é", "中",
     "の", "한", "😀", "👍🏽", "_", "__", "//", "http", "def", " ", "  ", "    "]
)  # fmt: skip
NO_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=5)
"""Text that names no special token."""
TEXT = st.lists(st.one_of(WORDS, NO_NAMES)).map("".join)


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=TEXT)
def test_any_text_is_cut_as_sentencepiece_cuts_it(
    tokenizer: Any, pieces: SentencePieceProcessor, text: str
) -> None:
    text = f"x{text}"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == pieces.encode(text)


def test_the_order_of_merges_is_kept_when_the_tokenizer_is_saved(
    tokenizer: Any, llama: Path, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    text = "def f():\n    return  1\n\n\n        x   3"
    expected = tokenizer(text)["input_ids"]
    assert load_tokenizer(tmp_path)(text)["input_ids"] == expected
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == expected


def test_a_folder_with_merges_of_its_own_keeps_them(llama: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes((llama / "tokenizer.model").read_bytes())
    before = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]
    loaded = load_tokenizer(tmp_path)
    assert json.loads(loaded.backend_tokenizer.to_str())["model"]["merges"] == before


def test_a_vocabulary_in_tiktokens_format_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")
    tokenizer = byte_level(("<image>", "<a>", "<end>"))
    before = tokenizer.backend_tokenizer.to_str()
    merge_by_score(tokenizer, tmp_path)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_without_its_token_an_image_tag_is_cut_into_pieces(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    copy = without_token(tokenizer, "<image>")
    found = copy("see <image>.</s>", add_special_tokens=False)["input_ids"]
    assert copy.convert_ids_to_tokens(found) == ["▁see", "▁<", "image", ">.", "</s>"]
    assert len(tokenizer("<image>", add_special_tokens=False)["input_ids"]) == 1


def test_a_vocabulary_of_words_does_not_know_an_image_tag_that_is_text(tmp_path: Path) -> None:
    write_tiny_base(tmp_path)
    copy = without_token(AutoTokenizer.from_pretrained(tmp_path), "<image>")
    assert copy("what <image> ?").tokens() == ["what", "<unk>", "?"]
