"""Settings made of parts, whose keys stand side by side in the config.

    data.max_length=128 data.on_bad_row=skip

are one group to whoever writes a config, and two values to the code: how rows become tensors, and
what is checked in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

PART = "part"


def part(kind: type) -> Any:
    """Return a dataclass field of a settings dataclass whose keys are its owner's in a config."""
    return field(default_factory=kind, metadata={PART: True})


def keys_of(kind: type) -> dict[str, Any]:
    """Return the type of each key that a config may give these settings."""
    found: dict[str, Any] = {}
    for f, hint in _typed_fields(kind):
        found |= keys_of(hint) if PART in f.metadata else {f.name: hint}
    return found


def keys_marked(kind: type, mark: str, above: str = "") -> Iterator[str]:
    """Yield the keys of these settings, and of those in them, whose field's metadata has `mark`.

    They are named as in a config: `trainer.devices`.
    """
    for f, hint in _typed_fields(kind):
        key = above if PART in f.metadata else f"{above}{f.name}."
        if mark in f.metadata:
            yield key.removesuffix(".")
        elif inner := settings_in(hint):
            yield from keys_marked(inner, mark, key)


def gathered(kind: type, tree: Any) -> Any:
    """Return a config's mapping with the keys of each part in a mapping of their own."""
    if not isinstance(tree, Mapping):
        return tree
    left, made = dict(tree), {}
    for f, hint in _typed_fields(kind):
        if PART in f.metadata:
            own = {key: left.pop(key) for key in keys_of(hint) if key in left}
            made[f.name] = gathered(hint, own)
        elif f.name in left and (inner := settings_in(hint)):
            left[f.name] = gathered(inner, left[f.name])
    return left | made


def place_of(kind: type | None, names: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the key in the config of what stands at `names` in the gathered settings."""
    if kind is None or not names:
        return tuple(map(str, names))
    for f, hint in _typed_fields(kind):
        if f.name == names[0]:
            rest = place_of(settings_in(hint), names[1:])
            return rest if PART in f.metadata else (f.name, *rest)
    return tuple(map(str, names))


def settings_in(hint: Any) -> type | None:
    """Return the settings dataclass that a hint is, or allows beside None."""
    return next(
        (t for t in (hint, *get_args(hint)) if isinstance(t, type) and is_dataclass(t)), None
    )


@cache
def _typed_fields(kind: type) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)  # each time, this compiles every annotation of the module anew
    return tuple((f, hints[f.name]) for f in fields(kind))
