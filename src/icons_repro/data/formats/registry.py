"""The formats by name."""

from __future__ import annotations

from icons_repro.data.formats.base import Format
from icons_repro.data.formats.hub import Hub
from icons_repro.data.formats.json_files import JsonFiles
from icons_repro.data.formats.parquet import Parquet
from icons_repro.data.formats.webdataset import WebDataset

FORMATS: dict[str, Format] = {
    "parquet": Parquet(),
    "json": JsonFiles(),
    "webdataset": WebDataset(),
    "hub": Hub(),
}
NO_ROWS = ("dataset_info.json", "dataset_dict.json", "state.json")
"""Names of files that say something about the rows beside them."""


def format_of(file: str) -> str | None:
    """Return the name of the format that a file's name ends like."""
    for name, kind in FORMATS.items():
        if file.lower().endswith(kind.suffixes or ("\0",)):
            return name
    return None


def known_suffixes() -> str:
    """List what files may end in, for messages."""
    return ", ".join(suffix for kind in FORMATS.values() for suffix in kind.suffixes)
