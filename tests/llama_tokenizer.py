"""A tokenizer that cuts text as Llama's does, small enough to work its tokens out by hand."""

from __future__ import annotations

import io
import json
import string
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from icons_repro.models.template import chat_template

SPECIALS = ("<unk>", "<s>", "</s>")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
WORDS = "USER ASSISTANT what color is it how many red two birds fly south"


def words_of(text: str) -> list[str]:
    """Return the pieces, each with the space before it."""
    for mark in ".,':":
        text = text.replace(mark, f" {mark} ")
    return text.split()


def llama_like(legacy: bool, extra: tuple[str, ...] = ("<image>",)) -> PreTrainedTokenizerFast:
    """Return a BPE over whole words: each is one token with the space before it, as `▁red`.

    Other text falls into characters. `legacy` puts a space after special tokens, as Llama's
    sentencepiece tokenizer does by default; without it, only at the start of a text.
    """
    words = [f"▁{w}" for w in dict.fromkeys([*words_of(SYSTEM), *WORDS.split()])]
    words += ["USER"]  # after </s>, where the tokenizer adds no space
    letters = sorted({c for word in words for c in word} | set(f":?\n{string.ascii_lowercase}"))
    vocabulary = {token: i for i, token in enumerate((*SPECIALS, *letters))}
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        "▁", prepend_scheme="always" if legacy else "first", split=True
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        additional_special_tokens=list(extra),
        padding_side="right",
    )


def byte_level(extra: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Return a BPE over bytes that merges line breaks, as Llama-3's and Qwen's do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "ĊĊ", "ĊĊĊ", "ĊĊĊĊ"])}
    merges = [("Ċ", "Ċ"), ("ĊĊ", "Ċ"), ("ĊĊ", "ĊĊ")]
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token=extra[2],
        pad_token=extra[2],
        additional_special_tokens=list(extra),
    )


def write_sentencepiece(folder: Path, legacy: bool) -> SentencePieceProcessor:
    """Write `tokenizer.model` and its config as a Vicuna folder has them; return the model."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([f"{SYSTEM} {WORDS} {c}" for c in string.ascii_letters]),
        model_writer=model,
        vocab_size=480,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_llama_config(folder, legacy)
    return SentencePieceProcessor(model_proto=model.getvalue())


def write_llama_folder(folder: Path, model: Path, legacy: bool) -> None:
    """Write what a Vicuna folder has of a tokenizer, from its `tokenizer.model`."""
    (folder / "tokenizer.model").write_bytes(model.read_bytes())
    write_llama_config(folder, legacy)


def write_llama_config(folder: Path, legacy: bool) -> None:
    """Write `tokenizer_config.json`; Vicuna-1.5's says `legacy: false`."""
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": legacy,
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def processor(
    template: str,
    legacy: bool = True,
    extra: tuple[str, ...] = ("<image>",),
    tokenizer: Any = None,
) -> LlavaProcessor:
    """Return a LLaVA processor whose image takes 4 tokens."""
    tokenizer = tokenizer or llama_like(legacy, extra)
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(template, tokenizer),
    )
