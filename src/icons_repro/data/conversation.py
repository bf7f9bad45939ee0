"""From LLaVA's turns to token ids and labels.

The template is the processor's own chat template, the one that evaluation uses too. Its
`{% generation %}` marks say which characters are answers; a token is supervised if its last
character lies in an answer. That holds for any tokenizer with offsets, and gives LLaVA-1.5's masks
for its template v1 (llava/train/train.py, `preprocess_v1`): system text, questions and role names
are masked, answers and their end-of-sequence token are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import LlavaProcessor
from transformers.utils.chat_template_utils import render_jinja_template

from icons_repro.core.errors import DataError
from icons_repro.core.types import Record
from icons_repro.data.validation import IMAGE_TOKEN
from icons_repro.models.llava import image_sequence_length

IGNORE = -100
ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class EncodedConversation:
    """One sample, ready to be padded."""

    input_ids: np.ndarray
    """int64 `[L]`, image placeholders expanded."""
    labels: np.ndarray
    """int64 `[L]`, aligned with `input_ids`; -100 where not supervised."""


class ConversationEncoder:
    """Encode records with one processor's tokenizer and chat template."""

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
        self.processor = processor
        self.template = str(processor.chat_template)
        self.tokenizer = processor.tokenizer
        self.max_length = max_length
        self.image_first = image_first
        self.image_id = self.tokenizer.convert_tokens_to_ids(processor.image_token)
        self.image_length = image_sequence_length(processor)

    def messages(self, conversations: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Return the turns as chat messages, image tags in their place."""
        messages = []
        for turn in conversations:
            text = turn["value"]
            count = text.count(IMAGE_TOKEN)
            if count and self.image_first:
                text = f"{IMAGE_TOKEN}\n" * count + text.replace(IMAGE_TOKEN, "").strip()
            messages.append({"role": ROLES[turn["from"]], "content": text})
        return messages

    def render(self, conversations: Sequence[Mapping[str, str]]) -> tuple[str, list[list[int]]]:
        """Return the prompt text and the `[start, end)` character spans of its answers."""
        rendered: Any = render_jinja_template(  # annotated as str; with the mask it is a pair
            [self.messages(conversations)],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        texts, spans = rendered
        return texts[0].replace(IMAGE_TOKEN, self.processor.image_token), spans[0]

    def encode(self, record: Record) -> EncodedConversation:
        """Tokenise `record`, mask all but the answers, expand images, cut at `max_length`."""
        text, spans = self.render(record.conversations)
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.asarray(encoding["input_ids"], dtype=np.int64)
        ends = np.asarray(encoding["offset_mapping"], dtype=np.int64)[:, 1]
        supervised = np.zeros(len(ids), dtype=bool)
        for start, end in spans:
            supervised |= (ends > start) & (ends <= end)
        repeats = np.where(ids == self.image_id, self.image_length, 1)
        input_ids = np.repeat(ids, repeats)[: self.max_length]
        labels = np.repeat(np.where(supervised, ids, IGNORE), repeats)[: self.max_length]
        self._check_images(record, input_ids)
        return EncodedConversation(input_ids, labels)

    def _check_images(self, record: Record, input_ids: np.ndarray) -> None:
        expected = len(record.images) * self.image_length
        found = int((input_ids == self.image_id).sum())
        if found != expected:
            raise DataError(
                f"row {record.position} (key {record.key}): {found} image tokens are left of "
                f"{expected} within max_length={self.max_length}. Raise max_length, or leave the "
                "row out."
            )
