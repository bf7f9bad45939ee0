"""Which characters of a rendered conversation are answers.

A chat template may mark them with `{% generation %}`. Few that models come with do, so otherwise
they are found by what the template does: an answer begins where the prompt for it ends, and ends
with the token that closes its turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from icons_repro.core.errors import DataError

Message = Mapping[str, Any]
Spans = list[list[int]]
"""`[start, end)` of each answer, in characters."""
REMEDY = "give the folder another chat template, or set model.template=v1 (llama3, qwen)"
NO_END = (
    "the chat template ends no answer with a token of its own, so a model trained on it would "
    f"never stop: {REMEDY}."
)
PROBE = "Zq7"
"""In no template's own words."""


class ChatTemplate:
    """A processor's own template: renders messages, and knows which characters are answers."""

    def __init__(self, processor: Any) -> None:
        """Raise `DataError` for a template that marks no answers, or never ends one."""
        if not processor.chat_template:
            raise DataError(f"the processor has no chat template: {REMEDY}.")
        self.text = str(processor.chat_template)
        self.specials = dict(processor.tokenizer.special_tokens_map)
        self.ends = tuple(processor.tokenizer.get_added_vocab())
        self.marked = re.search(r"{%-?\s*generation", self.text) is not None
        self.in_parts = self._reads_parts(processor.image_token)
        self.render(self._probe())

    def _reads_parts(self, image_token: str) -> bool:
        """Whether it takes a list of parts with images among them, or strings alone."""
        parts = [{"type": "image"}, {"type": "text", "text": PROBE}]
        try:
            text = self._rendered([{"role": "user", "content": parts}], True)
        except (DataError, TypeError):  # it adds the content to a string
            return False
        return PROBE in text and text.count(image_token) == 1 and "{" not in text

    def _probe(self) -> list[Message]:
        roles = ("user", "assistant", "user", "assistant")
        pairs = enumerate(roles)
        return [{"role": role, "content": self.content([f"{PROBE}{i}"])} for i, role in pairs]

    def content(self, pieces: Sequence[str | None], image_token: str = "") -> Any:
        """Return a message's content of texts and images (None), as the template reads it."""
        if not self.in_parts:
            return "".join(f"{image_token}\n" if piece is None else piece for piece in pieces)
        return [
            {"type": "image"} if piece is None else {"type": "text", "text": piece}
            for piece in pieces
        ]

    def render(self, messages: Sequence[Message]) -> tuple[str, Spans]:
        """Return the text of a conversation, and where its answers are, ends of turns included.

        Raises `DataError` where an answer has no end, or no place of its own.
        """
        if self.marked:
            rendered: Any = self._render(messages, return_assistant_tokens_mask=True)
            text, found = rendered[0][0], rendered[1][0]
            return text, [[start, self._end(text, start, end)] for start, end in found]
        text = self._rendered(messages, False)
        return text, [self._span(messages, i, text) for i in self._answers(messages)]

    def _answers(self, messages: Sequence[Message]) -> list[int]:
        return [i for i, message in enumerate(messages) if message["role"] == "assistant"]

    def _span(self, messages: Sequence[Message], i: int, text: str) -> list[int]:
        prompt = self._rendered(messages[:i], True)
        until = self._rendered(messages[: i + 1], False)
        if not (text.startswith(prompt) and text.startswith(until)):
            raise DataError(
                "the chat template rewrites earlier turns when later ones follow, so it cannot be "
                f"told which characters are answers: {REMEDY}."
            )
        return [len(prompt), self._end(until, len(prompt), len(until))]

    def _end(self, text: str, start: int, end: int) -> int:
        """Return where the token ends that closes the answer `[start, end)`."""
        answer = text[start:end].rstrip()
        if answer.endswith(self.ends):
            return start + len(answer)
        after = text[end:].lstrip(" ")
        for token in self.ends:
            if after.startswith(token):
                return len(text) - len(after) + len(token)
        raise DataError(NO_END)

    def _rendered(self, messages: Sequence[Message], prompt: bool) -> str:
        rendered: Any = self._render(messages, add_generation_prompt=prompt)
        return str(rendered[0][0])

    def _render(self, messages: Sequence[Message], **options: Any) -> Any:
        try:
            return render_jinja_template(
                [[dict(message) for message in messages]],
                chat_template=self.text,
                **self.specials,
                **options,
            )
        except TemplateError as error:
            raise DataError(f"the chat template fails ({error}): {REMEDY}.") from error
