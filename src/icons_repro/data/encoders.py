"""Which encoder and which collator a family's rows go through."""

from __future__ import annotations

from typing import Any

from icons_repro.core.errors import DataError
from icons_repro.core.settings import DataSettings
from icons_repro.data.chat import NO_END, PROBE
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.dataset import Collator, PictureCollator
from icons_repro.data.picture_encoder import PictureEncoder
from icons_repro.data.validation import SPEAKERS
from icons_repro.models.families.base import Family
from icons_repro.models.families.llava import LLAVA


def make_encoder(
    family: Family, processor: Any, settings: DataSettings | None = None
) -> ConversationEncoder:
    """Return the encoder of a family's rows. Raises `DataError` for a template without answers."""
    settings = settings or DataSettings()
    if family is LLAVA:
        return ConversationEncoder(processor, settings.max_length, settings.image_first)
    return PictureEncoder(family, processor, settings.max_length, settings.image_first)


def make_collator(family: Family, processor: Any, settings: DataSettings) -> Collator:
    """Return what makes batches of a family's encoded rows."""
    if family is LLAVA:
        return Collator(processor, settings.aspect_ratio)
    return PictureCollator(processor, family)


def require_ends(encoder: ConversationEncoder) -> None:
    """Raise `DataError` unless every answer that is supervised ends with a token of its own."""
    ends = tuple(encoder.tokenizer.get_added_vocab())
    text, spans = encoder.render([{"from": speaker, "value": PROBE} for speaker in SPEAKERS])
    if not all(text[start:end].rstrip().endswith(ends) for start, end in spans):
        raise DataError(NO_END)
