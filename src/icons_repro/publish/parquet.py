"""Chosen rows as parquet files with their images inside, in the layout of the hub's datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.progress import watched
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable
from icons_repro.data.validation import row_images

SHARD_BYTES = 500_000_000
"""Images of one file, about."""
GROUP_ROWS = 100
"""Rows of a row group: small, since a reader holds the images of a whole one."""
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TURN = pa.struct([("from", pa.string()), ("value", pa.string())])
TEXT = {"dtype": "string", "_type": "Value"}
FEATURES = {
    "id": TEXT,
    "images": [{"_type": "Image"}],
    "conversations": [{"from": TEXT, "value": TEXT}],
    "source": TEXT,
    "category": TEXT,
    "position": {"dtype": "int64", "_type": "Value"},
    "key": TEXT,
}
"""What `datasets` is told of the columns; without it images would be structs of bytes."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("conversations", pa.list_(TURN)),
        ("source", pa.string()),
        ("category", pa.string()),
        ("position", pa.int64()),
        ("key", pa.string()),
    ],
    {"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def write_parquet(
    table: RecordTable, positions: Sequence[int], images: Path, out: Path
) -> list[Path]:
    """Write `train-00000-of-0000N.parquet` files to the new folder `out`; return them, in order.

    Raises `DataError` naming an image that is not there any more.
    """
    folder = ImageFolder(images, table.policy)
    out.mkdir(parents=True)
    rows = watched(_rows(table, positions, folder), "writing", len(positions), "row")
    parts: list[Path] = []
    writer, size = None, 0
    for group in batched(rows):
        if writer is None:
            parts.append(out / f"{len(parts)}.part")
            writer, size = pq.ParquetWriter(parts[-1], SCHEMA), 0
        writer.write_table(pa.Table.from_pylist(group, SCHEMA))
        size += sum(len(image["bytes"]) for row in group for image in row["images"])
        if size >= SHARD_BYTES:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    names = [f"train-{n:05d}-of-{len(parts):05d}.parquet" for n in range(len(parts))]
    return [part.rename(out / name) for part, name in zip(parts, names, strict=True)]


def batched(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield `GROUP_ROWS` rows at a time: what is held in memory, and a row group."""
    left = iter(rows)
    while group := list(islice(left, GROUP_ROWS)):
        yield group


def _rows(
    table: RecordTable, positions: Sequence[int], images: ImageFolder
) -> Iterator[dict[str, Any]]:
    for position in positions:
        record = table[int(position)]
        raw = record.raw
        yield {
            "id": None if raw.get("id") is None else str(raw["id"]),
            "images": [_image(images, name) for name in row_images(raw)],
            "conversations": [
                {"from": t["from"], "value": t["value"]} for t in record.conversations
            ],
            "source": record.source,
            "category": None if raw.get("category") is None else str(raw["category"]),
            "position": record.position,
            "key": record.key,
        }


def _image(images: ImageFolder, name: str) -> dict[str, Any]:
    return {"bytes": Path(images.find(name)).read_bytes(), "path": name}
