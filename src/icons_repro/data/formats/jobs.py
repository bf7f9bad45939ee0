"""What the step of another format does: turn each file's rows, then put them end to end."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, replacing, write_json
from icons_repro.core.progress import watched
from icons_repro.core.step import Counts
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.formats.looks import images_now
from icons_repro.data.formats.pictures import Pictures
from icons_repro.data.formats.registry import FORMATS
from icons_repro.data.formats.rows import pool_row
from icons_repro.data.formats.stage import Converted
from icons_repro.data.formats.turns import wanted_fields
from icons_repro.data.origins import ORIGINS
from icons_repro.data.validation import UNUSABLE, json_text, row_images

log = logging.getLogger(__name__)
ROWS = "rows"
"""Folder of what the parts made, gone at the end: `PART.jsonl`, `PART.parquet`, `PART.json`."""
COUNTS = "counts.json"
"""What was counted; there once all else is."""


def part_names(step: Converted) -> list[str]:
    """Return a name for each file, in the order of the pool."""
    return [
        f"{number:03d}-{shard:06d}"
        for number, source in enumerate(step.sources)
        for shard in range(len(FORMATS[source.format].shards(source)))
    ]


def fill(step: Converted, out: Path, part: str) -> None:
    """Write a file's rows, which of its rows they are, and what was counted."""
    number, shard = map(int, part.split("-"))
    source = step.sources[number]
    kind = FORMATS[source.format]
    name = kind.shards(source)[shard]
    root = Path(source.images.folder) if source.images else None
    pictures = Pictures(out / "images", root, step.follow_symlinks)
    places: list[int] = []
    rows = usable = with_images = 0
    first = ""
    (out / ROWS).mkdir(parents=True, exist_ok=True)
    with (
        replacing(out / ROWS / f"{part}.jsonl") as path,
        path.open("w", encoding="utf-8") as file,
    ):
        found = kind.rows(source, name, wanted_fields(source.columns))
        for row in watched(found, f"reading {Path(name).name}", unit="row"):
            if copies := copies_of(source, step.seed, shard, rows):
                made = pool_row(row, source, pictures)
                file.write(f"{json_text(made)[0]}\n" * copies)
                places += [rows] * copies
                with_images += bool(row_images(made))
                usable += UNUSABLE not in made
                first = first or made.get(UNUSABLE, {}).get("detail", "")
            rows += 1
    files = pa.array([name] * len(places), pa.string()).dictionary_encode()
    table = pa.table({"file": files, "row": pa.array(places, pa.int64())})
    pq.write_table(table, out / ROWS / f"{part}.parquet")
    counts = {"read": rows, "rows": len(places), "usable": usable, "with_images": with_images}
    note = {"counted": counts, "problem": first, "images": pictures.kept}
    write_json(out / ROWS / f"{part}.json", note)


def copies_of(source: SourceSpec, seed: int, shard: int, row: int) -> int:
    """Return how often a row is in the pool.

    The draw is each row's own, so a larger weight keeps the rows of a smaller one, and files that
    are added later change no earlier row.
    """
    whole = int(source.weight)
    if whole == source.weight:
        return whole
    text = f"{seed} {source.name} {shard} {row}"
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
    return whole + (drawn < source.weight - whole)


def finish(step: Converted, out: Path) -> Counts:
    """Write `pool.json` or `targets/`, each with its origins; count rows by source.

    Raises `DataError` for images that have changed meanwhile, and a pool without any.
    """
    counts = read_json(out / COUNTS)  # a worker may have been killed while it removed the parts
    if counts is None:
        counts = {"sources": _finish(step, out)}
        write_json(out / COUNTS, counts)
    shutil.rmtree(out / ROWS, ignore_errors=True)
    return dict(counts)


def _finish(step: Converted, out: Path) -> dict[str, Any]:
    for source in step.sources:
        check_images(source)
    counts: dict[str, Any] = {}
    (out / "images").mkdir(exist_ok=True)
    for path in (out / "images").glob("*/*.part"):  # of a worker that was killed
        path.unlink()
    parts = part_names(step)
    for number, source in enumerate(step.sources):
        mine = [part for part in parts if part.startswith(f"{number:03d}-")]
        counts[source.name or source.format] = counted(source, mine, out)
        if step.targets:
            (out / "targets").mkdir(exist_ok=True)
            join(out, mine, out / "targets" / f"{source.name}.json")
    if not step.targets:
        refuse_without_images(step, counts)
        join(out, parts, out / "pool.json")
    return counts


def counted(source: SourceSpec, parts: Sequence[str], out: Path) -> dict[str, int]:
    """Return what a source's parts counted. Raises `DataError` if none of its rows is usable."""
    notes: list[Any] = [read_json(out / ROWS / f"{part}.json") for part in parts]
    check_kept(out, notes)
    found: Counter[str] = sum((Counter(note["counted"]) for note in notes), Counter())
    if not found["usable"]:
        problem = next((note["problem"] for note in notes if note["problem"]), "there is none")
        raise DataError(f"{_described(source)}: no row can be used; the first: {problem}.")
    return dict(found)


def check_kept(out: Path, notes: Sequence[Any]) -> None:
    """Raise `DataError` if images of finished parts are not whole: no part waits for the disk."""
    for name, size in (item for note in notes for item in note["images"].items()):
        path = out / "images" / name
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(
                f"{path} is not what was written: the machine went down while it was. Delete "
                f"{out}, and give the command again."
            )


def join(out: Path, parts: list[str], path: Path) -> None:
    """Write the rows of some parts, end to end, as JSON lines; and which rows they were."""
    tables = (pq.read_table(out / ROWS / f"{part}.parquet") for part in parts)
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), path.with_suffix(ORIGINS))
    with path.open("wb") as whole:
        for part in parts:
            with (out / ROWS / f"{part}.jsonl").open("rb") as file:
                shutil.copyfileobj(file, whole)


def check_images(source: SourceSpec) -> None:
    """Raise `DataError` if images in a folder are no longer those that the step is named by."""
    if source.images and images_now(source, Path(source.images.folder)) != source.images.digest:
        raise DataError(
            f"images in {source.images.folder} have changed since this run began. Give the "
            "command again when they stay as they are; it begins with the new ones."
        )


def refuse_without_images(step: Converted, counts: Counts) -> None:
    """Raise `DataError` for a pool in which no row has an image, unless that is what was asked."""
    told = all(source.columns.get("images", "") is None for source in step.sources)
    if told or any(found.get("with_images") for found in counts.values()):
        return
    raise DataError(
        f"{'; '.join(map(_described, step.sources))}: no row has an image. "
        "data.columns={images: NAME} says which column has them, {images: null} that a pool of "
        "text alone is meant."
    )


def _described(source: SourceSpec) -> str:
    """Name a source, and the fields of its rows, among which a reader finds the right one."""
    kind = FORMATS[source.format]
    names = kind.fields(source, next(iter(kind.shards(source))))
    return f"{source.where} (a row has {json.dumps(names)})"
