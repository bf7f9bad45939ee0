"""Where pictures come from: a table's image folder, a benchmark's parquet file, an lmms-eval task.

Each is a list that can be gone through again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from icons_repro.core.errors import UserError
from icons_repro.core.pictures import PictureError, open_picture
from icons_repro.evaluation.result import UnavailableError
from icons_repro.leakage.prints import Picture

if TYPE_CHECKING:
    from icons_repro.evaluation.loading import TaskLoader
    from icons_repro.evaluation.settings import BenchmarkSettings

BATCH = 64
"""Rows of a parquet file whose pictures are in memory."""


class Source(Protocol):
    """Pictures in a fixed order."""

    def __iter__(self) -> Iterator[Picture]: ...


@dataclass(frozen=True)
class TableImages:
    """The images of a step's usable rows, under the checks that the rows were read with."""

    folder: Path
    """Has `records.arrow`."""
    images: Path

    def __iter__(self) -> Iterator[Picture]:
        from icons_repro.data.images import ImageFolder
        from icons_repro.data.records import RecordTable

        table = RecordTable(self.folder / "records.arrow")
        shown = ImageFolder(self.images, table.policy)
        for name in table.image_names:
            yield name, partial(shown.decode, name)


@dataclass(frozen=True)
class ParquetImages:
    """The pictures of a benchmark's parquet file, by question. Rows without one are passed over."""

    parquet: Path

    def __iter__(self) -> Iterator[Picture]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.parquet) as file:
            for batch in file.iter_batches(BATCH, columns=["question_id", "image"]):
                for row in batch.to_pylist():
                    if data := (row["image"] or {}).get("bytes"):
                        name = f"question {row['question_id']}"
                        yield name, partial(open_picture, io.BytesIO(data), f"of {name}")


@dataclass(frozen=True)
class TaskImages:
    """The pictures of an lmms-eval task, by question.

    Going through it raises `UserError` for a task that cannot be loaded.
    """

    loader: TaskLoader
    benchmark: BenchmarkSettings

    def __iter__(self) -> Iterator[Picture]:
        try:
            for name, picture in self.loader.pictures(self.benchmark):
                yield name, partial(_as_rgb, picture, name)
        except UnavailableError as problem:
            raise UserError(str(problem)) from problem


def _as_rgb(picture: Image.Image | Exception, name: str) -> Image.Image:
    if isinstance(picture, Exception):
        detail = f"the image of {name} cannot be read: {picture or type(picture).__name__}"
        raise PictureError("unreadable_image", detail) from picture
    try:
        return picture.convert("RGB")
    except Exception as error:  # Pillow's decoders promise no list of what they raise
        detail = f"the image of {name} cannot be read: {error or type(error).__name__}"
        raise PictureError("unreadable_image", detail) from error


def reopened(source: Source, positions: set[int]) -> dict[int, Image.Image]:
    """Return some pictures of a source; those that cannot be opened any more are left out."""
    found: dict[int, Image.Image] = {}
    last = max(positions, default=-1)
    for position, (_, load) in enumerate(source):
        if position > last:
            break
        if position in positions:
            try:
                found[position] = load()
            except PictureError:
                continue
    return found
