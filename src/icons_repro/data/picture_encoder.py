"""From turns and images to token ids and labels, where an image's tokens depend on the image.

The processor of the family prepares the images and says which text each becomes; the text is
tokenised whole, and a token is supervised as in conversation.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.core.types import IMAGE_TOKEN, Record
from icons_repro.data.chat import ChatTemplate, Spans
from icons_repro.data.conversation import (
    ROLES,
    WRITTEN_TAG,
    ConversationEncoder,
    EncodedConversation,
    turns_of,
)
from icons_repro.models.batches import IGNORE
from icons_repro.models.families.base import Family, Pictures

TYPICAL = (640, 480)
"""An image of this size stands for all where lengths are only estimated; COCO's are of it."""


@dataclass(frozen=True)
class PicturedConversation(EncodedConversation):
    """One sample with its images prepared."""

    token_types: np.ndarray | None
    """int64 `[L]`, 1 where a token is an image's; None in families without."""
    pictures: Pictures | None
    """None in a row of text alone."""


class PictureEncoder(ConversationEncoder):
    """Encode records and their images with one processor of any family."""

    leaves_images = False

    def __init__(
        self, family: Family, processor: Any, max_length: int = 2048, image_first: bool = True
    ) -> None:
        """See `ConversationEncoder`. Raises `DataError` for a template without answers."""
        self.family = family
        self.chat = ChatTemplate(processor)
        self._take(processor, max_length, image_first)
        self.image_text = family.image_token(processor)
        self.image_id = self.tokenizer.convert_tokens_to_ids(self.image_text)
        bos = self.tokenizer.bos_token_id
        begins = bos is not None and self.tokenizer("")["input_ids"][:1] == [bos]
        self._bos = str(self.tokenizer.bos_token) if begins else ""

    @cached_property
    def image_length(self) -> int:  # type: ignore[override]
        """Tokens of a typical image, for estimates of a row's length."""
        pictures = self.family.pictures(self.processor, [Image.new("RGB", TYPICAL)])
        return len(self.tokenizer(pictures.texts[0], add_special_tokens=False)["input_ids"])

    def messages(
        self, conversations: Sequence[Mapping[str, str]], pictured: bool = True
    ) -> list[dict[str, Any]]:
        """Return the turns as chat messages, images in their place or first in their turn."""
        return [
            {"role": ROLES[turn["from"]], "content": self._content(turn["value"], pictured)}
            for turn in conversations
        ]

    def _content(self, text: str, pictured: bool) -> Any:
        token = self.processor.image_token
        if not pictured:
            return self.chat.content([text.replace(IMAGE_TOKEN, WRITTEN_TAG)])
        texts = re.split(rf"{IMAGE_TOKEN}\n?", text)
        if self.image_first and len(texts) > 1:
            rest = text.replace(IMAGE_TOKEN, "").strip()
            pieces = [*[None] * (len(texts) - 1), *([rest] if rest else [])]
            return self.chat.content(pieces, token)
        placed = [piece for part in texts for piece in (part, None)][:-1]
        return self.chat.content([piece for piece in placed if piece != ""] or [""], token)

    def render(
        self, conversations: Sequence[Mapping[str, str]], pictured: bool = True
    ) -> tuple[str, Spans]:
        """Return the prompt text, one placeholder an image, and its answers' characters.

        The token that begins a text is written where the tokenizer would add it.
        """
        text, spans = self.chat.render(self.messages(conversations, pictured))
        if not pictured:
            text = text.replace(WRITTEN_TAG, IMAGE_TOKEN)
        return self.begin(text, spans)

    def begin(self, text: str, spans: Spans) -> tuple[str, Spans]:
        """Return `text` with the token that begins it, once."""
        if not self._bos or text.startswith(self._bos):
            return text, spans
        shift = len(self._bos)
        return self._bos + text, [[start + shift, end + shift] for start, end in spans]

    def encode(self, record: Record, images: Sequence[Image.Image] = ()) -> PicturedConversation:
        """Prepare the images, tokenise, mask all but the answers, cut at `max_length`."""
        text, spans = self.render(turns_of(record), pictured=bool(record.images))
        where = f"row {record.position} (key {record.key})"
        return self.encode_text(text, spans, images, where)

    def encode_text(
        self, text: str, spans: Spans, images: Sequence[Image.Image], where: str
    ) -> PicturedConversation:
        """Encode a rendered text with its images; `where` names it in errors."""
        pictures = self._pictures(images, where) if images else None
        if pictures:
            text, spans = self._expand(text, spans, pictures, where)
        ids, ends = self._tokens(text, spans, pictured=bool(images))
        supervised = np.zeros(len(ids), dtype=bool)
        for start, end in spans:
            supervised |= (ends > start) & (ends <= end)
        kept = ids[: self.max_length]
        self._check_kept(pictures, kept, where)
        labels = np.where(supervised, ids, IGNORE)[: self.max_length]
        return PicturedConversation(kept, labels, self._types(kept), pictures)

    def _pictures(self, images: Sequence[Image.Image], where: str) -> Pictures:
        try:
            return self.family.pictures(self.processor, images)
        except ValueError as error:
            raise DataError(
                f"{where}: the processor refuses its images ({error}). Leave the row out."
            ) from error

    def _expand(self, text: str, spans: Spans, pictures: Pictures, where: str) -> tuple[str, Spans]:
        """Put each image's text in its placeholder's place, and move the spans along."""
        token = self.processor.image_token
        pieces = text.split(token)
        if len(pieces) != len(pictures.texts) + 1:
            raise DataError(
                f"{where}: the prompt has {len(pieces) - 1} places for {len(pictures.texts)} "
                f"images; its text may hold {token!r}. Take that out of the row, or leave it out."
            )
        at, moves = 0, []
        for piece, shown in zip(pieces, pictures.texts, strict=False):
            at += len(piece) + len(token)
            moves.append((at, len(shown) - len(token)))
        whole = "".join(t for pair in zip(pieces, (*pictures.texts, ""), strict=True) for t in pair)
        moved = [[p + sum(by for end, by in moves if end <= p) for p in span] for span in spans]
        return whole, moved

    def _types(self, ids: np.ndarray) -> np.ndarray | None:
        if self.family.token_types is None:
            return None
        (types,) = self.processor.create_mm_token_type_ids([ids.tolist()])
        return np.asarray(types, dtype=np.int64)

    def _check_kept(self, pictures: Pictures | None, kept: np.ndarray, where: str) -> None:
        expected = sum(text.count(self.image_text) for text in pictures.texts) if pictures else 0
        found = int((kept == self.image_id).sum())
        if found != expected:
            raise DataError(
                f"{where}: {found} image tokens are left of {expected} within "
                f"max_length={self.max_length}. Raise data.max_length, make the processor's images "
                "smaller, or leave the row out."
            )
