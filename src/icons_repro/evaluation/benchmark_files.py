"""Check a benchmark's parquet file before anything is scored on it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.errors import DataError
from icons_repro.core.files import check_regular
from icons_repro.core.pictures import PictureError, check_picture

COLUMNS = ("question_id", "image", "question", "answer")
BLOCK = 64
"""Rows looked at together; their images are in memory."""
TEXTS = ("question", "answer")


def answers_yes_or_no(parquet: Path) -> bool:
    """Check every row of a benchmark file, and tell whether all its answers are yes or no.

    Images are opened but not decoded. Raises `DataError` naming file, row and column.
    """
    if not parquet.exists():
        raise DataError(
            f"benchmark file {parquet} does not exist: name one that does in benchmarks.tasks, "
            "or run the prepare stage."
        )
    check_regular(parquet)
    answers = set()
    for number, row in enumerate(_rows(parquet)):
        if problem := _problem(row):
            raise DataError(f"{parquet}, row {number}: {problem}. Mend the row, or leave it out.")
        answers.add(row["answer"])
    if not answers:
        raise DataError(f"{parquet} has no rows: nothing can be scored on it.")
    return answers <= {"yes", "no"}


def _rows(parquet: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(parquet) as file:
            _check_schema(file.schema_arrow, parquet)
            for batch in file.iter_batches(BLOCK, columns=list(COLUMNS)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{parquet} is no readable parquet file: {reason}. It is cut or damaged, or of another "
            "format: write it again."
        ) from error


def _check_schema(schema: pa.Schema, parquet: Path) -> None:
    missing = [c for c in COLUMNS if c not in schema.names]
    if missing:
        raise DataError(f"{parquet} lacks the column(s) {missing}; it needs {list(COLUMNS)}.")
    for name in COLUMNS:
        if len(schema.get_all_field_indices(name)) > 1:
            raise DataError(f"{parquet} has the column {name} twice.")


def _problem(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, if anything."""
    for name in TEXTS:
        if not isinstance(row[name], str):
            return f"`{name}` is {_kind(row[name])}, and must be text"
    if not isinstance(row["question_id"], str | int):
        return f"`question_id` is {_kind(row['question_id'])}, and must be text or a number"
    image = row["image"]
    if image is None:
        return None
    if not isinstance(image, dict) or not isinstance(image.get("bytes"), bytes | None):
        return "`image` must be null, or a struct of `bytes` (the image file) and `path`"
    if image.get("bytes") is None:
        path = image.get("path")
        return f"`image` names {path!r} but holds no `bytes`" if path else None
    try:
        check_picture(io.BytesIO(image["bytes"]), f"of question {row['question_id']}")
    except PictureError as error:
        return str(error)
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
