"""Conversations as people write them, turned into LLaVA's.

| a row has | as in |
|---|---|
| `conversations`: `{from, value}` | LLaVA, ShareGPT, LLaMA-Factory |
| `messages`: `{role, content}`, the content a text or a list of parts | TRL, chat templates |
| `texts`: `{user, assistant}` | the Cauldron, FineVision |
| `prompt` and `completion`: texts, or messages | TRL |
| `question` and `answer` | many benchmarks |

LLaVA's schema knows no system prompt, since its template has one, so a system message stands before
the first question. Images that no text has a tag for are shown before the first question, as TRL
does (trl/data_utils.py, `prepare_multimodal_messages`); not those of `{from, value}` rows, where
both LLaVA and LLaMA-Factory want the tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icons_repro.core.types import IMAGE_TOKEN
from icons_repro.data.formats.base import Fields, UnfitRow

ROLES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "texts"),
    "prompt": ("prompt",),
    "completion": ("completion",),
    "question": ("question",),
    "answer": ("answer",),
    "images": ("images", "image"),
    "id": ("id", "__key__"),
    "source": ("source", "data_source", "task_name"),
    "category": ("category",),
}
"""What a column can be, and the names that it is looked for under, in this order."""
SPEAKERS = {"user": "human", "human": "human", "assistant": "gpt", "gpt": "gpt"}
PAYLOADS = ("image", "bytes", "path", "url", "image_url")
"""Where a part of type `image` may hold the image itself."""


@dataclass
class Conversation:
    """Turns in LLaVA's schema, and the images that they show, in order."""

    turns: list[dict[str, Any]] = field(default_factory=list)
    inline: list[Any] = field(default_factory=list)
    """Images of parts; None where the part is a place alone."""
    tagged: bool = False
    """Whether the form wants a tag for each image."""


def column(row: Fields, role: str, columns: Mapping[str, str | None]) -> Any:
    """Return what a row has in a role, by the user's name for it or a usual one; else None."""
    if role in columns:
        return row.get(columns[role] or "")
    return next((row[name] for name in ROLES[role] if row.get(name) is not None), None)


def wanted_fields(columns: Mapping[str, str | None]) -> set[str]:
    """Return every name that a role may be read from."""
    usual = {name for role, names in ROLES.items() if role not in columns for name in names}
    return usual | {name for name in columns.values() if name}


def conversation(row: Fields, columns: Mapping[str, str | None]) -> Conversation:
    """Return a row's conversation. Raises `UnfitRow` where there is none, or a part is unknown."""
    get = {role: column(row, role, columns) for role in ROLES}
    if get["messages"] is not None:
        return _of_messages(get["messages"])
    for asked, answered in (("prompt", "completion"), ("question", "answer")):
        if get[asked] is not None and get[answered] is not None:
            sides = [_as_messages(get[asked], "user"), _as_messages(get[answered], "assistant")]
            return _of_messages([*sides[0], *sides[1]])
    raise UnfitRow(
        "no_conversations",
        "no conversation found under any usual name; data.columns={messages: NAME}, or "
        "{question: NAME, answer: NAME}, says where it is",
    )


def _as_messages(value: Any, role: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def _of_messages(messages: Any) -> Conversation:
    found, system = Conversation(), ""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise UnfitRow("no_conversations", f"a {type(messages).__name__} is no list of messages")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UnfitRow("bad_turn", f"turn {number} is no object")
        for speaker, content in _said(message, found):
            text = _text(content, found, number)
            if speaker == "system":
                system += f"{text}\n\n" if text else ""
                continue
            if system and speaker in ("user", "human"):
                text, system = f"{system}{text}", ""
            found.turns.append({"from": SPEAKERS.get(speaker, speaker), "value": text})
    return found


def _said(message: Mapping[str, Any], found: Conversation) -> list[tuple[Any, Any]]:
    """Return who says what in one entry of a conversation, in any of its forms."""
    if message.get("from") is not None:
        found.tagged = True
        return [(message["from"], message.get("value"))]
    if message.get("role") is not None:
        return [(message["role"], message.get("content"))]
    if "user" in message or "assistant" in message:
        return [(who, message[who]) for who in ("user", "assistant") if message.get(who)]
    return [(None, None)]


def _text(content: Any, found: Conversation, number: int) -> Any:
    """Return a turn's text, a tag where each image part is."""
    if not isinstance(content, list):
        return content  # no text is told by the check that every row passes
    pieces = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            pieces.append(part.get("text") or "")
        elif kind in ("image", "image_url"):
            found.inline.append(_payload(part))
            pieces.append(f"{IMAGE_TOKEN}\n")
        else:
            raise UnfitRow(
                "unknown_part",
                f"turn {number} has a part of type {kind!r}; text and image are read",
            )
    return "".join(pieces).removesuffix("\n")


def _payload(part: Mapping[str, Any]) -> Any:
    value = next((part[name] for name in PAYLOADS if part.get(name) is not None), None)
    return value["url"] if isinstance(value, Mapping) and "url" in value else value


def shown(found: Conversation, listed: Any) -> list[Any]:
    """Return the images that a conversation shows: those inside it, or those `listed` beside it.

    Where no text has a tag for them, the first question gets the tags.
    """
    held = [image for image in found.inline if image is not None]
    if held and len(held) < len(found.inline):
        raise UnfitRow("image_token_count", "some image parts hold their image and others do not")
    images = held or (listed if isinstance(listed, list) else [listed])
    images = [image for image in images if image is not None]
    asked = next((turn for turn in found.turns if turn["from"] == "human"), None)
    tags = any(IMAGE_TOKEN in str(turn["value"]) for turn in found.turns)
    if images and asked and not tags and not found.tagged and isinstance(asked["value"], str):
        asked["value"] = f"{IMAGE_TOKEN}\n" * len(images) + asked["value"]
    return images
