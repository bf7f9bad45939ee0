"""Flat dataclasses as lines of a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from icons_repro.core.errors import DataError
from icons_repro.core.files import write_text

T = TypeVar("T")


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """Read lines; a file that is not there has none. Raises `DataError` naming file and line."""
    if not path.is_file():
        return []
    types = get_type_hints(kind)
    with path.open(newline="", encoding="utf-8") as file:
        found = []
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                found.append(kind(**{name: types[name](value) for name, value in line.items()}))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path}:{number}: {error!r}. Mend the line or delete it."
                ) from error
        return found


def write_rows(path: Path, rows: Sequence[Any], kind: Any) -> None:
    """Write lines whole or not at all."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([f.name for f in fields(kind)])
    for row in rows:
        lines.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)])
    write_text(path, text.getvalue())
