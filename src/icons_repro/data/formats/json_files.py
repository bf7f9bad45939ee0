"""JSON arrays and JSON lines: TRL's messages, LLaMA-Factory's ShareGPT; images are files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from icons_repro.data.formats.base import Fields, Format, SourceSpec
from icons_repro.data.json_rows import read_rows
from icons_repro.data.validation import RowProblem


class JsonFiles(Format):
    """One shard a file; image paths are relative to it, as LLaMA-Factory's are."""

    suffixes = (".json", ".jsonl")
    image_paths = True

    def rows(
        self, source: SourceSpec, shard: str, wanted: Collection[str]
    ) -> Iterator[Fields | RowProblem]:
        """Read one row at a time, as the pool's own files are (json_rows.py)."""
        for row, _ in read_rows(Path(shard)):
            yield row
