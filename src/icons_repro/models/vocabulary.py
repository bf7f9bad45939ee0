"""How much of a text a model's tokenizer knows: a small vocabulary turns the rest to `<unk>`.

A model that reads `<unk> many <unk>` learns and answers nothing, and no error says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MOST_TEXTS = 1000
"""Texts that are looked at."""
NAMED = 5
"""Unknown words that are told."""
ENOUGH = 0.98
"""Share of known words from which nothing need be said."""


@dataclass(frozen=True)
class Coverage:
    """What a tokenizer makes of some texts."""

    tokens: int
    unknown: Counter[str] = field(default_factory=Counter)
    """The pieces of text that it has no token for, as they are written."""

    @property
    def share(self) -> float:
        """Share of the tokens that are known, 1 for no text."""
        return 1.0 - self.unknown.total() / self.tokens if self.tokens else 1.0

    @property
    def enough(self) -> bool:
        """Whether the model can read nearly all."""
        return self.share >= ENOUGH

    def __str__(self) -> str:
        words = ", ".join(word for word, _ in self.unknown.most_common(NAMED))
        return f"{self.share:.0%} of the words are known" + (f"; not: {words}" if words else "")


def coverage(tokenizer: Any, texts: Iterable[str]) -> Coverage:
    """Tokenise the first `MOST_TEXTS` texts and count what becomes the unknown token.

    A tokenizer without one, or that falls back to bytes, knows everything.
    """
    few = list(islice(texts, MOST_TEXTS))
    if not few or tokenizer.unk_token_id is None:
        return Coverage(len(few))
    encoded = tokenizer(few, add_special_tokens=False, return_offsets_mapping=True)
    pieces = [
        text[begin:end]
        for text, ids, offsets in zip(
            few, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
        for token, (begin, end) in zip(ids, offsets, strict=True)
        if token == tokenizer.unk_token_id
    ]
    return Coverage(sum(map(len, encoded["input_ids"])), Counter(pieces))


def spread(count: int, most: int = MOST_TEXTS) -> Sequence[int]:
    """Return at most `most` places, evenly spread over `count`."""
    return range(0, count, max(1, -(-count // most)))
