"""Where a benchmark's rows and images are: parquet files of the hub, or the official JSON files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.dataset as pads

from icons_repro.core.errors import DataError, UserError
from icons_repro.models.hub import fetch

ImageKey = Hashable
"""What two rows of one source share when they show the same image."""


class BenchmarkRows(Protocol):
    """A benchmark's rows, opened; images are read one at a time."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Every row without its image, in the order of the files."""
        ...

    def image_keys(self) -> Sequence[ImageKey | None]:
        """Return what names each row's image; None where it has none."""
        ...

    def images(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Yield the encoded image of each wanted row."""
        ...


class Source(Protocol):
    """A place that rows can be opened from."""

    @property
    def name(self) -> str:
        """Where it is, for people."""
        ...

    def files(self, folder: Path) -> list[Path]:
        """Return the local files that hold it, empty where there are none."""
        ...

    def open(self, folder: Path) -> BenchmarkRows:
        """Open it from `folder`, else from the hub. Raises `UserError` saying what to fetch."""
        ...


@dataclass(frozen=True)
class HubSplit:
    """One split of a parquet dataset: on the hub, or in a snapshot at `FOLDER/<its last name>`."""

    repository: str
    split: str
    config: str | None = None
    image_split: HubSplit | None = None
    """Where images are in a table of their own (GQA): `id`, `image`, joined on `imageId`."""

    @property
    def name(self) -> str:
        """Repository, configuration and split."""
        return f"{self.repository}, {self.pattern}"

    @property
    def pattern(self) -> str:
        """The files of the split inside the repository."""
        return f"{self.config or 'data'}/{self.split}-*.parquet"

    def files(self, folder: Path) -> list[Path]:
        """Return the parquet files of a local snapshot."""
        found = sorted((folder / self.repository.split("/")[-1]).glob(self.pattern))
        return found + (self.image_split.files(folder) if self.image_split else [])

    def open(self, folder: Path) -> ParquetRows:
        """Open the local snapshot, or fetch the split's files from the hub."""
        found = self._own(folder)
        pictures = self.image_split._own(folder) if self.image_split else None
        return ParquetRows(found, pictures)

    def _own(self, folder: Path) -> list[Path]:
        local = folder / self.repository.split("/")[-1]
        if found := sorted(local.glob(self.pattern)):
            return found
        try:
            home = fetch(self.repository, [self.pattern], kind="dataset")
        except UserError as error:
            raise UserError(f"{error} Or put its files into {local}/{self.pattern}.") from error
        found = sorted(home.glob(self.pattern))
        if not found:
            raise DataError(f"{home} has no {self.pattern}: fetch {self.repository} again.")
        return found


@dataclass(frozen=True)
class ParquetRows(BenchmarkRows):
    """Rows of parquet files with an `image` column of encoded bytes."""

    files: Sequence[Path]
    image_files: Sequence[Path] | None = None

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Every column but the image."""
        data = pads.dataset(list(self.files))
        columns = [c for c in data.schema.names if c != "image"]
        rows: list[dict[str, Any]] = data.to_table(columns=columns).to_pylist()
        return rows

    def image_keys(self) -> Sequence[ImageKey | None]:
        """The image's id where the benchmark gives one, else the row's own place."""
        if self.image_files:
            return [row["imageId"] for row in self.rows]
        if self.rows and "image_id" in self.rows[0]:
            return [row["image_id"] for row in self.rows]
        data = pads.dataset(list(self.files))
        valid = [
            flag
            for batch in data.to_batches(columns=["image"], batch_size=64)
            for flag in batch.column(0).is_valid().to_pylist()
        ]
        return [place if ok else None for place, ok in enumerate(valid)]

    def images(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Read the rows in blocks, so that a split larger than memory is no matter."""
        table = pads.dataset(list(self.image_files or self.files))
        places = list(wanted)
        if self.image_files:
            places = [self._image_places[self.rows[i]["imageId"]] for i in wanted]
        for start in range(0, len(places), 64):
            block = table.take(pa.array(places[start : start + 64]), columns=["image"])
            for image in block.column("image").to_pylist():
                yield image["bytes"]

    @cached_property
    def _image_places(self) -> Mapping[str, int]:
        table = pads.dataset(list(self.image_files or ())).to_table(columns=["id"])
        return {name: place for place, name in enumerate(table.column("id").to_pylist())}


@dataclass(frozen=True)
class OfficialFiles:
    """A benchmark's own release: a JSON file or two, and a folder of images."""

    folder: str
    """Below the sources' folder."""
    parts: tuple[str, ...]
    """JSON files whose lists are joined row by row."""
    lists: tuple[str | None, ...]
    """The key of each file's list; None where the file is a list."""
    image: str
    """Column with the image's file name, or with COCO's number."""
    image_folders: tuple[str, ...]
    image_names: tuple[str, ...] = ("{}",)
    website: str = ""

    @property
    def name(self) -> str:
        """The files, and where they are from."""
        return f"{', '.join(self.parts)} ({self.website})"

    def files(self, folder: Path) -> list[Path]:
        """Return the JSON files that are there."""
        return [p for p in (folder / self.folder / part for part in self.parts) if p.exists()]

    def open(self, folder: Path) -> OfficialRows:
        """Open the files. They are not on the hub in this form."""
        home = folder / self.folder
        missing = [part for part in self.parts if not (home / part).is_file()]
        if missing:
            raise UserError(
                f"{home / missing[0]}: no such file. Put {', '.join(self.parts)} from "
                f"{self.website} there, and the images into {home / self.image_folders[0]}."
            )
        return OfficialRows(self, home)


@dataclass(frozen=True)
class OfficialRows(BenchmarkRows):
    """Rows joined from a release's JSON files; images are files."""

    source: OfficialFiles
    home: Path

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The files' lists, joined row by row."""
        lists = []
        for part, key in zip(self.source.parts, self.source.lists, strict=True):
            try:
                content = json.loads((self.home / part).read_text())
                lists.append(content[key] if key else content)
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.home / part} is not {self.source.name}: {error}."
                ) from error
        ids = {tuple(row.get("question_id") for row in rows) for rows in lists}
        if len(ids) != 1:
            raise DataError(f"{self.home}: {self.source.parts} do not list the same questions.")
        joined: list[dict[str, Any]] = [{} for _ in lists[0]]
        for rows in lists:
            for row, found in zip(joined, rows, strict=True):
                row |= found
        return joined

    def image_keys(self) -> Sequence[ImageKey | None]:
        """The file's name, or COCO's number."""
        return [row[self.source.image] for row in self.rows]

    def images(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Read each image's file."""
        for i in wanted:
            yield image_file(self.home, self.source, self.rows[i][self.source.image]).read_bytes()


def image_file(home: Path, source: OfficialFiles, key: Any) -> Path:
    """Return the file of an image, under any of the names that releases give it."""
    tried = [
        home / folder / name.format(key)
        for folder in source.image_folders
        for name in source.image_names
    ]
    for path in tried:
        if path.is_file():
            return path
    raise DataError(f"no image {key} for {source.name}: looked for {tried[0]}.")
