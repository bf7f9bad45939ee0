"""Nested mappings as flat names, and where in them a class is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

TARGET = "_target_"
"""The key by which a config names a class."""


def flatten(
    tree: Mapping[str, Any], separator: str = ".", prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield `("a.b", value)` for the leaves of a tree; lists and None are kept as they are."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


def targets(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted key of every `_target_`, at any depth, in lists too."""
    stack: list[tuple[str, Any]] = [("", tree)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, Mapping):
            if TARGET in node:
                yield f"{path}{TARGET}"
            stack += [(f"{path}{key}.", value) for key, value in node.items()]
        elif isinstance(node, Iterable) and not isinstance(node, str | bytes):
            stack += [(f"{path}{number}.", value) for number, value in enumerate(node)]
