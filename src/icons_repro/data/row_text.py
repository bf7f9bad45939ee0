"""A row's words, as encoders of text and word counts read them."""

from __future__ import annotations

from icons_repro.core.types import Record
from icons_repro.data.validation import IMAGE_TOKEN


def row_text(record: Record) -> str:
    """Return the words of all turns, without image tags."""
    turns = (turn["value"].replace(IMAGE_TOKEN, "").strip() for turn in record.conversations)
    return " ".join(turn for turn in turns if turn)
