"""From plain mappings to typed settings, with errors that name the key; and their defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from icons_repro.core.bounds import REFUSED
from icons_repro.core.errors import ConfigError
from icons_repro.core.names import nearest, new_name
from icons_repro.core.parts import PART, gathered, keys_of, place_of
from icons_repro.core.trees import TARGET, targets

LONGEST = 60
"""Characters of a wrong value that an error repeats."""


def checked_part(kind: type, tree: Any, prefix: str) -> Any:
    """Return the settings that a part of a config holds. Raises `ConfigError` naming the key."""
    if prefix and isinstance(tree, Mapping):
        refuse_unknown(tree, kind, f"{prefix}.")
    try:
        return _adapter(kind).validate_python(gathered(kind, tree))
    except ValidationError as error:
        raise ConfigError(_complaint(error, kind, prefix)) from error


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _complaint(error: ValidationError, kind: type, prefix: str) -> str:
    """Say of the first thing that is wrong: key, value, and what it must be."""
    first = error.errors()[0]
    key = ".".join([*([prefix] if prefix else []), *place_of(kind, first["loc"])])
    if first["type"] == "missing":
        return f"{key} is not set."
    given = repr(first["input"])
    given = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
    colon = "" if first["type"] == REFUSED else ":"
    return f"{key}={given}{colon} {first['msg'][:1].lower()}{first['msg'][1:]}."


def refuse_classes(tree: Mapping[str, Any]) -> None:
    """Refuse a `_target_` anywhere but where a selector or a source is chosen: configs are data."""
    for key in targets(tree):
        if not re.fullmatch(r"(selector|influence|references\.\w+)\..+", key):
            raise ConfigError(
                f"{key}: only selector.{TARGET} and influence.{TARGET} name a class; "
                "see docs/trust.md."
            )


def refuse_unknown(tree: Mapping[str, Any], settings: type, prefix: str) -> None:
    """Refuse a key that the settings lack, with the nearest that they have."""
    hints = keys_of(settings)
    for key, value in tree.items():
        if key not in hints:
            raise ConfigError(unknown(f"{prefix}{key}", str(key), hints))
        inner = [t for t in (hints[key], *get_args(hints[key])) if is_dataclass(t)]
        if not inner or not isinstance(value, Mapping):
            continue
        named = {key: value}
        if get_origin(hints[key]) is dict:
            named = {f"{key}.{name}": entry for name, entry in value.items()}
        for name, entry in named.items():
            if isinstance(entry, Mapping):
                refuse_unknown(entry, inner[0], f"{prefix}{name}.")  # type: ignore[arg-type]


def unknown(key: str, word: str, known: Iterable[str]) -> str:
    """Say that there is no `key`; `known` are the right words that `word` may be meant as."""
    renamed = new_name(key)
    hint = f"; it is {renamed} now." if renamed else nearest(word, known)
    return f"unknown key {key}{hint}"


def defaults_of(settings: type) -> dict[str, Any]:
    """Return the defaults of a settings dataclass, nested ones included, as a plain dict."""
    hints = get_type_hints(settings)
    tree: dict[str, Any] = {}
    for field in fields(settings):
        if PART in field.metadata:
            tree |= defaults_of(hints[field.name])
        elif field.default is not MISSING:
            tree[field.name] = field.default
        elif field.default_factory is not MISSING:
            made = field.default_factory()
            plain = is_dataclass(made) and not isinstance(made, type)
            tree[field.name] = asdict(made) if plain else made
        elif is_dataclass(hints[field.name]):
            tree[field.name] = defaults_of(hints[field.name])
    return tree
