"""From LLaVA's turns to token ids and labels.

The template is the processor's own chat template, the one that evaluation uses too. Its
`{% generation %}` marks say which characters are answers; a token is supervised if its last
character lies in an answer. That holds for any tokenizer with offsets, and gives LLaVA-1.5's ids
and masks for its template v1 (llava/train/train.py, `preprocess_v1`): system text, questions and
role names are masked; all that is generated after `ASSISTANT:` is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import LlavaProcessor
from transformers.utils.chat_template_utils import render_jinja_template

from icons_repro.core.errors import DataError
from icons_repro.core.types import IMAGE_TOKEN, Record
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import image_sequence_length
from icons_repro.models.tokenizer import without_token

if TYPE_CHECKING:
    from PIL import Image

ROLES = {"human": "user", "gpt": "assistant"}
WRITTEN_TAG = "\ufdd0" * len(IMAGE_TOKEN)
"""Stands for an image tag that is text, while the template is rendered; no text has this."""


def with_one_tag(turn: Mapping[str, str]) -> Mapping[str, str]:
    """Return a turn with the first of its image tags alone: all stand for the row's one image."""
    before, tag, after = turn["value"].partition(IMAGE_TOKEN)
    return {**turn, "value": before + tag + after.replace(IMAGE_TOKEN, "")}


def turns_of(record: Record) -> Sequence[Mapping[str, str]]:
    """Return a record's turns, one image tag alone where it has one image."""
    turns = record.conversations
    return [with_one_tag(turn) for turn in turns] if len(record.images) == 1 else turns


@dataclass(frozen=True)
class EncodedConversation:
    """One sample, ready to be padded."""

    input_ids: np.ndarray
    """int64 `[L]`, image placeholders expanded."""
    labels: np.ndarray
    """int64 `[L]`, aligned with `input_ids`; -100 where not supervised."""


class ConversationEncoder:
    """Encode records with one processor's tokenizer and chat template."""

    leaves_images = True
    """Whether the collator prepares the images, all of a batch at once."""

    def __init__(
        self, processor: LlavaProcessor, max_length: int = 2048, image_first: bool = True
    ) -> None:
        """Take `max_length` in tokens after image expansion.

        `image_first` moves the image tag to the front of its turn, as LLaVA-1.5 does; with a
        template that wants it elsewhere, turn it off.
        """
        if not processor.chat_template:
            raise DataError("the processor has no chat template: set model.template.")
        if not re.search(r"{%-?\s*generation", str(processor.chat_template)):
            raise DataError(
                "the processor's chat template marks no answers with {% generation %}, so nothing "
                "would be supervised: set model.template=v1 (or llama3, qwen)."
            )
        self._take(processor, max_length, image_first)
        self.image_id = self.tokenizer.convert_tokens_to_ids(processor.image_token)
        self.image_length = image_sequence_length(processor)

    def _take(self, processor: Any, max_length: int, image_first: bool) -> None:
        self.processor = processor
        self.template = str(processor.chat_template)
        self.tokenizer = processor.tokenizer
        self.max_length = max_length
        self.image_first = image_first

    def messages(
        self, conversations: Sequence[Mapping[str, str]], pictured: bool = True
    ) -> list[dict[str, Any]]:
        """Return the turns as chat messages, image tags in their place.

        Where the row has no image (`pictured`), a tag is text and stays as it is written.
        """
        messages = []
        for turn in conversations:
            text = turn["value"]
            count = text.count(IMAGE_TOKEN)
            if count and not pictured:
                text = text.replace(IMAGE_TOKEN, WRITTEN_TAG)
            elif count and self.image_first:
                text = f"{IMAGE_TOKEN}\n" * count + text.replace(IMAGE_TOKEN, "").strip()
                text = text.strip()  # a question that is an image alone ends with its tag
            messages.append({"role": ROLES[turn["from"]], "content": text})
        return messages

    def render(
        self, conversations: Sequence[Mapping[str, str]], pictured: bool = True
    ) -> tuple[str, list[list[int]]]:
        """Return the prompt text and the `[start, end)` character spans of its answers."""
        rendered: Any = render_jinja_template(  # annotated as str; with the mask it is a pair
            [self.messages(conversations, pictured)],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        texts, spans = rendered
        if not pictured:
            return texts[0].replace(WRITTEN_TAG, IMAGE_TOKEN), spans[0]
        return texts[0].replace(IMAGE_TOKEN, self.processor.image_token), spans[0]

    def encode(self, record: Record, images: Sequence[Image.Image] = ()) -> EncodedConversation:
        """Tokenise `record`, mask all but the answers, expand images, cut at `max_length`.

        `images` are the record's; here an image's tokens do not depend on what it shows.
        """
        text, spans = self.render(turns_of(record), pictured=bool(record.images))
        ids, ends = self._tokens(text, spans, pictured=bool(record.images))
        supervised = np.zeros(len(ids), dtype=bool)
        for start, end in spans:
            supervised |= (ends > start) & (ends <= end)
        repeats = np.where(ids == self.image_id, self.image_length, 1)
        input_ids = np.repeat(ids, repeats)[: self.max_length]
        labels = np.repeat(np.where(supervised, ids, IGNORE), repeats)[: self.max_length]
        self._check_images(record, input_ids)
        return EncodedConversation(input_ids, labels)

    def _tokens(
        self, text: str, spans: Sequence[Sequence[int]], pictured: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ids `[L]` and the characters `[L]` that they end before.

        A prompt ends where its answer begins, so no token may reach over that place: the text is
        cut there if one does (Llama-3's and Qwen's line breaks, where an answer begins with one).
        """
        written = not pictured and self.processor.image_token in text
        tokenizer = self._text_tokenizer if written else self.tokenizer

        def tokenise(start: int, end: int) -> np.ndarray:
            encoding = tokenizer(
                text[start:end], add_special_tokens=False, return_offsets_mapping=True
            )
            offsets = np.asarray(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2) + start
            return np.column_stack([np.asarray(encoding["input_ids"], dtype=np.int64), offsets])

        tokens = tokenise(0, len(text))
        cuts = [at for at, _ in spans if ((tokens[:, 1] < at) & (at < tokens[:, 2])).any()]
        if cuts:
            places = zip([0, *cuts], [*cuts, len(text)], strict=True)
            tokens = np.concatenate([tokenise(start, end) for start, end in places])
        return tokens[:, 0], tokens[:, 2]

    @cached_property
    def _text_tokenizer(self) -> Any:
        """The tokenizer to which an image tag is text, as it is to LLaVA's own."""
        return without_token(self.tokenizer, self.processor.image_token)

    def _check_images(self, record: Record, input_ids: np.ndarray) -> None:
        expected = len(record.images) * self.image_length
        found = int((input_ids == self.image_id).sum())
        if found != expected:
            raise DataError(
                f"row {record.position} (key {record.key}): {found} image tokens are left of "
                f"{expected} within max_length={self.max_length}. Raise max_length, or leave the "
                "row out."
            )
