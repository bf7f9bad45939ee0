"""The chat templates that ship with the package, fitted to a tokenizer.

Each marks its answers with `{% generation %}`, which decides what is supervised.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from icons_repro.core.errors import ConfigError, DataError

TEMPLATES = ("v1", "llama3", "qwen")
NEEDS = {
    "v1": ("</s>",),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "qwen": ("<|im_start|>", "<|im_end|>"),
}
"""Tokens that a tokenizer must know for each template."""


def chat_template(name: str, tokenizer: Any) -> str:
    """Return the template `name` for `tokenizer`.

    LLaVA-1.5 tokenises the text before and after an image apart, so that sentencepiece puts a
    space before each. A tokenizer that adds one only at the start of a text (Llama's
    `legacy=false`) gets the space from the template; the token ids are then LLaVA's either way.
    Raises `ConfigError` for an unknown name, `DataError` for a tokenizer of another family.
    """
    if name not in TEMPLATES:
        raise ConfigError(f"model.template={name!r} is none of {TEMPLATES}.")
    known = tokenizer.get_vocab()
    missing = [token for token in NEEDS[name] if token not in known]
    if missing:
        raise DataError(
            f"the tokenizer has no token {missing[0]!r}, which the template {name!r} writes: "
            f"choose another model.template ({', '.join(TEMPLATES)})."
        )
    text = resources.files(__package__).joinpath("templates", f"{name}.jinja").read_text()
    if name == "v1" and not adds_space_after_specials(tokenizer):
        text = text.replace("set gap = ''", "set gap = ' '")
    return text


def adds_space_after_specials(tokenizer: Any) -> bool:
    """Return whether text right after a special token is tokenised as if a space stood before."""
    ids = tokenizer(f"{tokenizer.eos_token}A", add_special_tokens=False)["input_ids"]
    return str(tokenizer.convert_ids_to_tokens(ids)[1]).startswith("▁")
