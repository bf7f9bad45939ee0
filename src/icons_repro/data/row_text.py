"""A row's words, as encoders of text and word counts read them."""

from __future__ import annotations

from icons_repro.core.types import IMAGE_TOKEN, Record


def row_text(record: Record) -> str:
    """Return the words of all turns, without image tags."""
    turns = (turn["value"].replace(IMAGE_TOKEN, "").strip() for turn in record.conversations)
    return " ".join(turn for turn in turns if turn)
