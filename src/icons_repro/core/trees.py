"""Nested mappings as flat names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(
    tree: Mapping[str, Any], separator: str = ".", prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield `("a.b", value)` for the leaves of a tree; lists and None are kept as they are."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
