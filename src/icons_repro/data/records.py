"""Turn a pool in LLaVA's JSON, Cambrian's JSONL or Vision-Flan's JSON into one Arrow table.

The file is read once, as a stream (json_rows.py). A row keeps its place: row i of the table is row
i of the file, also where it is unusable (its `problem` then says why), so positions never shift.
Opening the table maps it into memory, whatever its size.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icons_repro.core.errors import DataError
from icons_repro.core.files import check_regular
from icons_repro.core.progress import bar
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.types import IMAGE_TOKEN, KEY_DTYPE, Record, content_key
from icons_repro.data.images import ImageFolder
from icons_repro.data.json_rows import read_rows
from icons_repro.data.origins import naming
from icons_repro.data.validation import (
    RowProblem,
    check_row,
    json_text,
    row_images,
    seen_images,
)

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("json", pa.large_string()),
        ("source", pa.string()),
        ("words", pa.int32()),
        ("images", pa.list_(pa.string())),
        ("problem", pa.string()),
    ]
)
BATCH_ROWS = 4096
"""Rows of every Arrow batch but the last, so that a position says where its row is."""
Row = tuple[str, str, str, int, list[str], str | None]
POLICY = b"policy"
"""Where the file's schema keeps the `RecordPolicy` that its rows passed."""


class RecordTable:
    """The rows of one file, memory-mapped, addressed by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batch = lru_cache(maxsize=64)(self._reader.get_batch)
        last = self._reader.num_record_batches - 1
        self._rows = last * BATCH_ROWS + self._batch(last).num_rows

    def __reduce__(self) -> tuple[type[RecordTable], tuple[Path]]:
        """Pickle as the file's path: a loader's worker process maps it anew."""
        return RecordTable, (self.path,)

    @cached_property
    def policy(self) -> RecordPolicy:
        """What the rows were checked by; whoever opens their images holds to it."""
        return RecordPolicy(**json.loads((self._reader.schema.metadata or {}).get(POLICY, b"{}")))

    @cached_property
    def _table(self) -> pa.Table:
        return self._reader.read_all()

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, position: int) -> Record:
        batch, row = self._locate(position)
        key, raw, source, images = (
            batch.column(name)[row].as_py() for name in ("key", "json", "source", "images")
        )
        return Record(position, key, json.loads(raw), tuple(images), source)

    def _locate(self, position: int) -> tuple[pa.RecordBatch, int]:
        if not 0 <= position < len(self):
            raise IndexError(f"row {position} of {len(self)} in {self.path}")
        number, row = divmod(position, BATCH_ROWS)
        return self._batch(number), row

    def json_line(self, position: int) -> str:
        """Return the row as the JSON text it was, without parsing it."""
        batch, row = self._locate(position)
        text: str = batch.column("json")[row].as_py()
        return text

    @property
    def keys(self) -> np.ndarray:
        """Content keys `[N]`, dtype `S32`."""
        fixed = self._table["key"].cast(pa.binary()).cast(pa.binary(KEY_DTYPE.itemsize))
        return np.concatenate([np.frombuffer(c.buffers()[1], KEY_DTYPE) for c in fixed.chunks])

    @property
    def sources(self) -> np.ndarray:
        """Source names `[N]`, str."""
        encoded = self._table["source"].combine_chunks().dictionary_encode()
        return np.asarray(encoded.dictionary.to_pylist(), dtype=str)[encoded.indices.to_numpy()]

    @property
    def words(self) -> np.ndarray:
        """Words of all turns `[N]`, int64."""
        return self._table["words"].to_numpy().astype(np.int64)

    @property
    def image_counts(self) -> np.ndarray:
        """Images of each row `[N]`, int64."""
        return pc.list_value_length(self._table["images"]).to_numpy().astype(np.int64)

    @property
    def image_names(self) -> list[str]:
        """Distinct images that usable rows show, sorted."""
        return sorted(pc.unique(pc.list_flatten(self._table["images"])).to_pylist())

    @property
    def usable(self) -> np.ndarray:
        """Rows without a problem `[N]`, bool."""
        return pc.is_null(self._table["problem"]).to_numpy()


class Blocks:
    """Names of the contiguous blocks of rows that a mixture was put together from."""

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        """Take the rows of each block, in the order of the file."""
        self.names = list(sizes or {})
        self._ends = np.cumsum([(sizes or {})[name] for name in self.names], dtype=np.int64)

    def name(self, position: int, raw: Mapping[str, Any]) -> str:
        """Name a row's origin: its block, or what it says itself where there are no blocks."""
        if not self.names:
            return record_source(raw)
        block = int(np.searchsorted(self._ends, position, side="right"))
        return self.names[block] if block < len(self.names) else ""

    def check(self, source: Path, rows: int) -> None:
        """Raise `DataError` unless the blocks have exactly the file's `rows`."""
        if self.names and rows != self._ends[-1]:
            raise DataError(
                f"{source} has {rows:,} rows, and data.blocks are {self._ends[-1]:,}: they are the "
                "blocks of another file. Set data.blocks=null to name rows by what they say of "
                "themselves, or give this file's blocks."
            )


def build_records(
    source: Path,
    image_root: Path,
    out: Path,
    policy: RecordPolicy | None = None,
    blocks: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Write `out/records.arrow` from the JSON array or JSONL file `source`; return row counts.

    With `on_bad_row="skip"`, `out/skipped.jsonl` lists each unusable row with its reason. `blocks`
    name the rows' sources by position, in place of what rows say of themselves. Raises `DataError`
    naming file and row for a bad row under `error`, for a file cut in the middle, and for blocks
    that have not exactly the file's rows.
    """
    policy, sources = policy or RecordPolicy(), Blocks(blocks)
    images, named = ImageFolder(image_root, policy), naming(source)
    reasons: Counter[str] = Counter()
    total = unseen = 0
    schema = SCHEMA.with_metadata({POLICY: json.dumps(asdict(policy), sort_keys=True)})
    with (
        pa.OSFile(str(out / "records.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
        (out / "skipped.jsonl").open("w") as skipped,
        bar(f"reading {source.name}", check_regular(source).st_size, "B", scaled=True) as read,
    ):
        rows: list[Row] = []
        for raw, offset in read_rows(source):
            row, problem = _row(raw, images, sources, total)
            if problem:
                _report(problem, named(total), policy)
                reasons[problem.reason] += 1
                skipped.write(json.dumps({"row": total, **problem.as_dict()}) + "\n")
            else:
                unseen += row_images(raw) != seen_images(raw)
            rows.append(row)
            total += 1
            if len(rows) == BATCH_ROWS:
                writer.write_batch(_columns(rows))
                rows.clear()
                read.update(offset - read.n)
        if rows:
            writer.write_batch(_columns(rows))
    sources.check(source, total)
    _conclude(source, total, reasons, unseen)
    usable = total - reasons.total()
    return {"rows": total, "usable": usable, "skipped": dict(reasons), "images_unseen": unseen}


def _conclude(source: Path, total: int, reasons: Counter[str], unseen: int) -> None:
    """Refuse a file without a usable row; say what of it is not used."""
    if not total:
        raise DataError(f"{source} has no rows. Add some, or leave the file out.")
    if total == reasons.total():
        raise DataError(f"{source} has {total} rows and none is usable: {dict(reasons)}.")
    if reasons:
        log.warning("%s: %d of %d rows skipped: %s", source, reasons.total(), total, dict(reasons))
    if unseen:
        log.warning(
            "%s: %d rows have an image and no %s tag; as in LLaVA's own code, the model sees their "
            "text alone.",
            *(source, unseen, IMAGE_TOKEN),
        )


def _columns(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _row(
    raw: Any, images: ImageFolder, sources: Blocks, position: int
) -> tuple[Row, RowProblem | None]:
    """Return the row of `raw` in `SCHEMA`'s order, and what is wrong with it, if anything."""
    text, problem = json_text(raw)
    whole = problem is None and isinstance(raw, Mapping)
    problem = problem or check_row(raw, images)
    usable = problem is None
    row = (
        content_key(raw if whole else {"row": text}),
        text,
        sources.name(position, raw) if usable else "",
        count_words(raw) if usable else 0,
        list(seen_images(raw)) if usable else [],
        problem.reason if problem else None,
    )
    return row, problem


def _report(problem: RowProblem, row: str, policy: RecordPolicy) -> None:
    if policy.on_bad_row == "error":
        raise DataError(
            f"{row}: {problem.detail}. "
            "Mend the row, or set data.on_bad_row=skip to leave such rows out and list them."
        )


def record_source(raw: Mapping[str, Any]) -> str:
    """Name a row's origin: `source` or `task_name`, else its image's top folder, else "text"."""
    for name in ("source", "task_name"):
        if isinstance(raw.get(name), str) and raw[name]:
            return raw[name]
    images = row_images(raw)
    return images[0].split("/", 1)[0] if images else "text"


def count_words(raw: Mapping[str, Any]) -> int:
    """Count whitespace-separated words over all turns, as LLaVA's grouping by length does."""
    return sum(len(turn["value"].replace(IMAGE_TOKEN, "").split()) for turn in raw["conversations"])


def iter_rows(source: Path) -> Iterator[tuple[Any, int]]:
    """Yield `(row, bytes read so far)`. Raises `DataError` for what cannot be a row."""
    for number, (row, offset) in enumerate(read_rows(source)):
        problem = row if isinstance(row, RowProblem) else json_text(row)[1]
        if problem:
            raise DataError(f"{source}, row {number}: {problem.detail}. Mend the row.")
        yield row, offset
