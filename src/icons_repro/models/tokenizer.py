"""Tokenizers from sentencepiece files, merging pieces in the order of their scores.

transformers 5 turns a `tokenizer.model` into a fast tokenizer whose merges follow the pieces' ids.
Sentencepiece merges by score, and the two orders differ: in Llama's file `▁▁` has the first id of
all pieces and the lowest score, so that a run of spaces was cut before the words beside it were
put together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor, generate_merges

NORMAL = 1
"""`ModelProto.SentencePiece.Type` of a piece that text is merged into."""


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of `folder`; one that comes as `tokenizer.model` cuts as sentencepiece."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    merge_by_score(tokenizer, folder)
    return tokenizer


def merge_by_score(tokenizer: Any, folder: Path) -> None:
    """Rank the merges of a tokenizer that was converted from `folder`'s `tokenizer.model`.

    Leaves alone a tokenizer that was read from `tokenizer.json`, which holds merges of its own, and
    a `tokenizer.model` in tiktoken's format, as Llama-3's is.
    """
    source = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file() or not source.is_file():
        return
    backend = tokenizer.backend_tokenizer
    old = backend.model
    if not isinstance(old, BPE):
        return
    from google.protobuf.message import DecodeError  # for such a file alone

    try:
        pieces = SentencePieceExtractor(str(source)).proto.pieces
    except DecodeError:
        return
    vocabulary = backend.get_vocab(with_added_tokens=False)
    scores = {p.piece: p.score for p in pieces if p.type == NORMAL}
    special = {p.piece for p in pieces if p.type != NORMAL}
    backend.model = BPE(
        vocab=vocabulary,
        merges=generate_merges(vocabulary, scores, skip_tokens=special),
        unk_token=old.unk_token,
        fuse_unk=old.fuse_unk,
        byte_fallback=old.byte_fallback,
    )


def without_token(tokenizer: Any, token: str) -> PreTrainedTokenizerFast:
    """Return a copy of `tokenizer` to which `token` is text like any other.

    A vocabulary of whole words, as the tiny base has, then does not know it.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [added for added in state["added_tokens"] if added["content"] != token]
    state["truncation"] = state["padding"] = None
    if isinstance(state["model"]["vocab"], dict):  # where the token was there from the start
        state["model"]["vocab"].pop(token, None)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
