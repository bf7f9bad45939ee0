"""Which row of which of the user's files a row of a converted pool or target was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ORIGINS = ".origins.parquet"
"""End of the name, in place of `.json`, of the file with `file` and `row` of each row, in order."""
Naming = Callable[[int], str]
"""Position to what a message calls the row."""


def naming(source: Path) -> Naming:
    """Return what names the rows of the file `source`: by its origins, if they stand beside it."""
    path = source.with_suffix(ORIGINS)
    opened: list[pa.Table] = []  # read when the first row is to be named

    def name(position: int) -> str:
        if not path.is_file():
            return f"{source}, row {position}"
        opened.extend([] if opened else [pq.read_table(path)])
        file, row = (opened[0][field][position].as_py() for field in ("file", "row"))
        return f"{file}, row {row}"

    return name
