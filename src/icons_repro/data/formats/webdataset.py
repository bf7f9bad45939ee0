"""WebDataset's tars: the files of a sample follow each other and share their name up to a dot.

`000.jpg` with `000.json`, or `000.txt`: the JSON's fields are the row's, each text is a field named
by its ending, the images are the row's, in the tar's order. Nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from icons_repro.core.errors import DataError
from icons_repro.data.formats.base import Fields, Format, SourceSpec
from icons_repro.data.validation import RowProblem

IMAGES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"}
TEXTS = {"txt", "text", "cls", "caption"}
MAX_MEMBER = 1 << 28
"""Bytes of one file of a tar; a picture that large is refused by its pixels long before."""
DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError)


class WebDataset(Format):
    """One shard a tar."""

    suffixes = (".tar", ".tar.gz", ".tgz")

    def rows(
        self, source: SourceSpec, shard: str, wanted: Collection[str]
    ) -> Iterator[Fields | RowProblem]:
        """Read from the tar's begin to its end, one sample at a time."""
        sample = Sample("")
        for member, data in members(Path(shard)):
            key, ending = split_name(member)
            if key != sample.key:
                if sample.key:
                    yield sample.row()
                sample = Sample(key)
            sample.add(ending.lower(), data)
        if sample.key:
            yield sample.row()


class Sample:
    """The files of one sample, as they come."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.fields: dict[str, Any] = {}
        self.images: list[bytes] = []
        self.problem: RowProblem | None = None

    def add(self, ending: str, data: bytes) -> None:
        """Take a file by what its name ends in."""
        kind = ending.rpartition(".")[2]
        if kind in IMAGES:
            self.images.append(data)
        elif kind == "json":
            self._add_json(data)
        elif kind in TEXTS:
            self.fields[ending] = data.decode(errors="surrogateescape").strip()

    def _add_json(self, data: bytes) -> None:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            self.problem = RowProblem("not_json", f"{self.key}.json is not JSON ({error})")
            return
        self.fields |= found if isinstance(found, dict) else {"messages": found}

    def row(self) -> Fields | RowProblem:
        """Return the sample as a row; its images are in place of any paths that its JSON names."""
        if self.problem:
            return self.problem
        shown = {"images": self.images, "image": None} if self.images else {}
        return {"__key__": self.key, **self.fields, **shown}


def split_name(name: str) -> tuple[str, str]:
    """Return a member's key and its ending: `a/b.left.jpg` is `a/b` and `left.jpg`.

    As webdataset has it (webdataset/tariterators.py, `base_plus_ext`).
    """
    folder, slash, file = name.rpartition("/")
    base, _, ending = file.partition(".")
    return f"{folder}{slash}{base}", ending


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of a tar's files, in order.

    Raises `DataError` for a tar that is cut, also between two files, where only its missing end
    tells.
    """
    last = "its beginning"
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                if member.isfile():
                    if member.size > MAX_MEMBER:
                        raise tarfile.ReadError(f"{member.name} has {member.size:,} bytes")
                    file = tar.extractfile(member)
                    assert file is not None  # it is a file
                    yield member.name, file.read()
                    last = member.name
                tar.members.clear()  # type: ignore[attr-defined] # it remembers every one otherwise
        if not ends_whole(path):
            raise tarfile.ReadError("it has no end")
    except DAMAGED as error:
        raise DataError(
            f"{path} is no whole tar (after {last}: {error}). It is cut or damaged: download it "
            "again."
        ) from error


def ends_whole(path: Path) -> bool:
    """Whether a plain tar ends with the block of zeros that ends one; a gzip's end says its own."""
    if path.name.lower().endswith("gz"):
        return True
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tarfile.BLOCKSIZE))
        return file.read() == bytes(tarfile.BLOCKSIZE)
