"""Read the rows of a JSON array, or of JSON lines, one by one, whatever stands in them.

The text may be UTF-8, UTF-16 or UTF-32, with a byte order mark or without. A row that cannot be a
training row (too long, too deep, not JSON) comes as the `RowProblem` that says so, in its place,
and memory stays bounded: at most one row and one block are held. What ends the file early, or
breaks an array between its rows, is a `DataError`, since nothing says where the next row begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from icons_repro.core.errors import DataError
from icons_repro.core.files import check_regular
from icons_repro.data.validation import RowProblem

MAX_CHARACTERS = 1 << 20
"""Characters of one row: hundreds of times what any context length holds."""
MAX_DEPTH = 64
"""Objects and lists inside each other; LLaVA's schema has three."""
BLOCK = 1 << 20
DECODER = json.JSONDecoder()
BLANKS = re.compile(r"[ \t\r\n]*")
OUTSIDE_STRINGS = re.compile(r'[\[{]+|[\]}]+|[",]')
IN_STRINGS = re.compile(r'["\\]')
TAIL = 16
"""An error this near to the end of what was read may be a token that goes on: tru, -, \\ud83."""


def read_rows(source: Path) -> Iterator[tuple[Any, int]]:
    """Yield `(row or RowProblem, bytes read so far)`.

    Raises `DataError` for a file that cannot be read, is cut, or is no JSON.
    """
    check_regular(source)
    with _open(source) as file:
        window = _Window(file, source)
        rows = _array(window) if window.peek() == "[" else _lines(window)
        for row in rows:
            yield row, window.offset


def _open(source: Path) -> TextIO:
    """Open a file as text, in the encoding that its first bytes show.

    What is not of that encoding becomes half a surrogate pair in its row, which is then refused.
    """
    try:
        with source.open("rb") as file:
            encoding = json.detect_encoding(file.read(4))
        keep = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
        return source.open(encoding=encoding, errors=keep, newline="")
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}.") from error


class _Window:
    """The part of a file that is looked at: `text` from `at` on."""

    def __init__(self, file: TextIO, source: Path) -> None:
        self.file = file
        self.source = source
        self.text = ""
        self.at = 0
        self.line = 1
        """Number of the line at `at`, kept for JSON lines."""

    @property
    def offset(self) -> int:
        """Bytes read from the file."""
        return self.file.buffer.tell()

    @property
    def left(self) -> int:
        """Characters that are not passed yet."""
        return len(self.text) - self.at

    def more(self) -> bool:
        """Forget what is passed and read a block; at the end of the file change nothing: False."""
        try:
            block = self.file.read(BLOCK)
        except UnicodeError as error:
            raise DataError(
                f"{self.source} is no text (near byte {self.offset:,}: {error}). The file is cut, "
                "compressed or damaged: unpack it, or download it again."
            ) from error
        if block:
            self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)

    def peek(self) -> str:
        """Pass blanks; return the character after them, or "" at the end of the file."""
        while True:
            match = BLANKS.match(self.text, self.at)
            assert match is not None  # it matches nothing, too
            self.line += match[0].count("\n")
            self.at = match.end()
            if self.left or not self.more():
                return self.text[self.at : self.at + 1]

    def cut(self, rows: int, reason: str) -> DataError:
        """Return the error of an array that stops being one."""
        return DataError(
            f"{self.source} stops being JSON after {rows} rows (near byte {self.offset:,}): "
            f"{reason}. The file is cut or damaged: download it again."
        )


def _array(window: _Window) -> Iterator[Any]:
    window.at += 1
    rows = 0
    following = window.peek()
    while following != "]":
        yield _value(window, rows)
        rows += 1
        following = window.peek()
        if following == ",":
            window.at += 1
        elif following != "]":
            raise window.cut(rows, f"expected a comma or ], found {following or 'the end'!r}")
    window.at += 1
    if window.peek():
        raise window.cut(rows, "there is text after the array's end")


def _value(window: _Window, rows: int) -> Any:
    """Take the next value of an array, reading on until it is whole."""
    window.peek()
    while True:
        try:
            row, end = DECODER.raw_decode(window.text, window.at)
        except json.JSONDecodeError as error:
            if not _may_go_on(error, window):
                raise window.cut(rows, error.msg) from error
            if window.left > MAX_CHARACTERS:
                return _pass_value(window, rows, _too_long())
            if not window.more():
                raise window.cut(rows, error.msg) from error
        except RecursionError:
            return _pass_value(window, rows, _too_deep())
        except ValueError as error:  # a number of thousands of digits
            return _pass_value(window, rows, _not_json(error))
        else:
            if end + TAIL < len(window.text) or not window.more():
                break  # else it may be a number that goes on: 1e-
    text, window.at = window.text[window.at : end], end
    return _bounded(row, text)


def _may_go_on(error: json.JSONDecodeError, window: _Window) -> bool:
    """Tell a value that is cut by the window's end from one that is wrong."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(window.text) - TAIL


def _pass_value(window: _Window, rows: int, problem: RowProblem) -> RowProblem:
    """Move to the end of an array's value without building it."""
    depth, in_string = 0, False
    while True:
        match = (IN_STRINGS if in_string else OUTSIDE_STRINGS).search(window.text, window.at)
        if match is None or (match[0] == "\\" and match.end() == len(window.text)):
            window.at = match.start() if match else len(window.text)
            if not window.more():
                raise window.cut(rows, "a row has no end")
            continue
        found, window.at = match[0], match.end()
        if found == "\\":
            window.at += 1
        elif found == '"':
            in_string = not in_string
        elif found[0] in "[{":
            depth += len(found)
        elif found[0] in "]}" and len(found) <= depth:
            depth -= len(found)
        elif not depth or found != ",":
            window.at = match.start() + depth  # before the comma, or the bracket of the array
            return problem


def _lines(window: _Window) -> Iterator[Any]:
    while window.peek():
        yield _line(window)


def _line(window: _Window) -> Any:
    """Take one line; a bad one is a problem of its own, unless it is the last and has no end."""
    end = window.text.find("\n", window.at)
    while end < 0 and window.left <= MAX_CHARACTERS and window.more():
        end = window.text.find("\n", window.at)
    if end < 0 and window.left > MAX_CHARACTERS:
        return _pass_line(window)
    line = window.text[window.at : end if end >= 0 else len(window.text)]
    window.at += len(line)
    try:
        return _bounded(DECODER.decode(line), line)
    except RecursionError:
        return _too_deep()
    except ValueError as error:
        if end >= 0:
            return _not_json(error)
        raise DataError(
            f"{window.source}, line {window.line}: not JSON ({error}). It is the last line: the "
            "file is cut, download it again. Expected an array, or one object a line."
        ) from error


def _pass_line(window: _Window) -> RowProblem:
    """Move to the end of a line that is longer than a row may be."""
    while (end := window.text.find("\n", window.at)) < 0:
        window.at = len(window.text)
        if not window.more():
            return _too_long()
    window.at = end
    return _too_long()


def _bounded(row: Any, text: str) -> Any:
    """Return the row that was read from `text`, or what makes it unfit."""
    if len(text) > MAX_CHARACTERS:
        return _too_long()
    brackets = text.count("[") + text.count("{")
    return _too_deep() if brackets > MAX_DEPTH and depth(row) > MAX_DEPTH else row


def depth(value: Any) -> int:
    """Count the objects and lists inside each other."""
    deepest, level = 0, [value]
    while level := [node for node in level if isinstance(node, dict | list)]:
        deepest += 1
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [inner for part in parts for inner in part]
    return deepest


def _too_long() -> RowProblem:
    return RowProblem("too_long", f"the row has more than {MAX_CHARACTERS:,} characters")


def _too_deep() -> RowProblem:
    detail = f"objects and lists stand more than {MAX_DEPTH} deep inside each other"
    return RowProblem("too_deep", detail)


def _not_json(error: ValueError) -> RowProblem:
    return RowProblem("not_json", f"not JSON ({error})")
