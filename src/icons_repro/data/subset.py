"""The chosen records, in the pool's own format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icons_repro.data.records import RecordTable


def write_subset(table: RecordTable, positions: np.ndarray, path: Path) -> None:
    """Write the rows at `positions` as one JSON array that any LLaVA trainer reads."""
    with path.open("w") as file:
        file.write("[\n")
        for number, position in enumerate(positions):
            file.write(",\n" if number else "")
            file.write(table.json_line(int(position)))
        file.write("\n]\n")
