"""LLaVA-1.5's preprocessing of one row, restated: the oracle of our ids and labels.

Sources, at the last commit of haotian-liu/LLaVA (c121f04): llava/train/train.py, lines 308-329
(`preprocess_multimodal`), 414-497 (`preprocess_v1`), 692-739 (`LazySupervisedDataset`);
llava/mm_utils.py, lines 185-204 (`tokenizer_image_token`); llava/conversation.py, lines 54-63
(`get_prompt`, separator style TWO) and 242-252 (`conv_vicuna_v1`). Its tokenizer is the slow one of
transformers 4.37.2 (models/llama/tokenization_llama.py, lines 200-272), on sentencepiece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as sentencepiece

IGNORE = -100
IMAGE = -200
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
ROLES = {"human": "USER", "gpt": "ASSISTANT"}
SEPARATORS = (" ", "</s>")
SPECIALS = {"<unk>": 0, "<s>": 1, "</s>": 2}


class SlowLlamaTokenizer:
    """Sentencepiece between special tokens; `legacy` says whether each text gets a space before."""

    def __init__(self, model: Path, legacy: bool) -> None:
        self.legacy = legacy
        proto = sentencepiece.ModelProto.FromString(model.read_bytes())
        proto.normalizer_spec.add_dummy_prefix = legacy
        self.pieces = SentencePieceProcessor(model_proto=proto.SerializeToString())

    def __call__(self, text: str) -> list[int]:
        if self.legacy or not text:
            return [1, *self._tokenize(text)]
        ids = self._tokenize("▁" + text.replace("▁", " "))
        bare = [self.pieces.piece_to_id("▁")]
        return [1, *(ids[1:] if ids[:1] == bare and ids[1:2] and ids[1] in (0, 1, 2) else ids)]

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in filter(None, re.split("(<unk>|<s>|</s>)", text)):
            ids += [SPECIALS[part]] if part in SPECIALS else self._pieces(part)
        return ids

    def _pieces(self, text: str) -> list[int]:
        if self.legacy or not text.startswith(("▁", " ")):
            return self.pieces.encode(text)
        return self.pieces.encode("<unk>" + text)[len(self.pieces.encode("<unk>")) :]


@dataclass(frozen=True)
class Preprocessed:
    """What LLaVA's dataset and model make of a row, before padding."""

    ids: np.ndarray
    labels: np.ndarray
    gave_up: bool
    """It warned of a "tokenization mismatch" and masked the whole row."""


def preprocess(
    row: Mapping[str, Any], tokenizer: SlowLlamaTokenizer, max_length: int, image_tokens: int
) -> Preprocessed:
    """Return ids and labels of `row`, -200 at each of an image's `image_tokens` features."""
    has_image = "image" in row
    turns = [dict(turn) for turn in row["conversations"]]
    if has_image:
        turns = [{**turn, "value": _image_first(turn["value"])} for turn in turns]
    if turns[0]["from"] != "human":
        turns = turns[1:]
    prompt = get_prompt([(ROLES[turn["from"]], turn["value"]) for turn in turns])

    def tokenize(text: str) -> list[int]:
        return tokenizer_image_token(text, tokenizer) if has_image else tokenizer(text)

    ids = tokenize(prompt)
    if not has_image:
        ids = ids[:max_length]
    labels, gave_up = _mask(prompt, np.asarray(ids), tokenize, tokenizer.legacy, max_length)
    ids, kept = ids[:max_length], labels[:max_length]
    repeats = [image_tokens if token == IMAGE else 1 for token in ids]
    kept = np.where(np.asarray(ids) == IMAGE, IGNORE, kept)
    return Preprocessed(
        np.repeat(ids, repeats)[:max_length], np.repeat(kept, repeats)[:max_length], gave_up
    )


def _image_first(text: str) -> str:
    if "<image>" not in text:
        return text
    return ("<image>" + "\n" + text.replace("<image>", "").strip()).strip()


def get_prompt(messages: Sequence[tuple[str, str | None]]) -> str:
    """Return the text of a conversation; a message of None asks for an answer."""
    text = SYSTEM + SEPARATORS[0]
    for number, (role, message) in enumerate(messages):
        text += role + ": " + message + SEPARATORS[number % 2] if message else role + ":"
    return text


def tokenizer_image_token(prompt: str, tokenizer: SlowLlamaTokenizer) -> list[int]:
    """Return ids of the texts between image tags, -200 for each tag."""
    first, *others = [tokenizer(chunk) for chunk in prompt.split("<image>")]
    ids = list(first)
    for chunk in others:
        ids += [IMAGE, *chunk[1:]]
    return ids


def _mask(
    prompt: str, ids: np.ndarray, tokenize: Any, legacy: bool, max_length: int
) -> tuple[np.ndarray, bool]:
    labels = ids.copy()
    total = int((labels != 0).sum())  # 0 is <unk>, with which it pads
    at = 1
    labels[:at] = IGNORE
    for number, turn in enumerate(prompt.split("</s>")):
        if turn == "":
            break
        parts = turn.split(" ASSISTANT: ")
        if len(parts) != 2:
            break
        length = len(tokenize(turn))
        question = len(tokenize(parts[0] + " ASSISTANT: ")) - 2
        if number and not legacy:
            length, question = length - 1, question - 1
        labels[at : at + question] = IGNORE
        at += length
    labels[at:] = IGNORE
    gave_up = at < max_length and at != total
    if gave_up:
        labels[:] = IGNORE
    return labels, gave_up
