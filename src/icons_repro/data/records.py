"""Turn a pool in LLaVA's JSON, Cambrian's JSONL or Vision-Flan's JSON into one Arrow table.

The file is read once, as a stream. A row keeps its place: row i of the table is row i of the file,
also where it is unusable (its `problem` then says why), so positions never shift. Opening the table
maps it into memory, whatever its size.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import ijson
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import Progress

from icons_repro.core.errors import DataError
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.types import KEY_DTYPE, Record, content_key
from icons_repro.data.validation import IMAGE_TOKEN, RowProblem, check_row, row_images

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("json", pa.string()),
        ("source", pa.string()),
        ("words", pa.int32()),
        ("images", pa.list_(pa.string())),
        ("problem", pa.string()),
    ]
)
BATCH_ROWS = 4096
"""Rows of every Arrow batch but the last, so that a position says where its row is."""
Row = tuple[str, str, str, int, list[str], str | None]
to_json = json.JSONEncoder(ensure_ascii=False).encode


class RecordTable:
    """The rows of one file, memory-mapped, addressed by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batch = lru_cache(maxsize=64)(self._reader.get_batch)
        last = self._reader.num_record_batches - 1
        self._rows = last * BATCH_ROWS + self._batch(last).num_rows

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
    root = image_root.resolve()
    reasons: Counter[str] = Counter()
    total = 0
    with (
        pa.OSFile(str(out / "records.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
        (out / "skipped.jsonl").open("w") as skipped,
        Progress(transient=True, disable=not sys.stderr.isatty()) as progress,
    ):
        bar = progress.add_task(f"reading {source.name}", total=source.stat().st_size)
        rows: list[Row] = []
        for raw, offset in iter_rows(source):
            row, problem = _row(raw, root, policy, sources, total)
            if problem:
                _report(problem, source, total, policy)
                reasons[problem.reason] += 1
                skipped.write(json.dumps({"row": total, **problem.as_dict()}) + "\n")
            rows.append(row)
            total += 1
            if len(rows) == BATCH_ROWS:
                writer.write_batch(_columns(rows))
                rows.clear()
                progress.update(bar, completed=offset)
        if rows:
            writer.write_batch(_columns(rows))
    if not total:
        raise DataError(f"{source} has no rows. Add some, or leave the file out.")
    sources.check(source, total)
    if total == sum(reasons.values()):
        raise DataError(f"{source} has {total} rows and none is usable: {dict(reasons)}.")
    if reasons:
        log.warning("%s: %d of %d rows skipped: %s", source, reasons.total(), total, dict(reasons))
    return {"rows": total, "usable": total - reasons.total(), "skipped": dict(reasons)}


def _columns(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _row(
    raw: Any, root: Path, policy: RecordPolicy, sources: Blocks, position: int
) -> tuple[Row, RowProblem | None]:
    """Return the row of `raw` in `SCHEMA`'s order, and what is wrong with it, if anything."""
    problem = check_row(raw, root, policy.check_images)
    sound = isinstance(raw, Mapping)
    usable = sound and problem is None
    row = (
        content_key(raw if sound else {"row": raw}),
        to_json(raw),
        sources.name(position, raw) if usable else "",
        count_words(raw) if usable else 0,
        list(row_images(raw)) if usable else [],
        problem.reason if problem else None,
    )
    return row, problem


def _report(problem: RowProblem, source: Path, row: int, policy: RecordPolicy) -> None:
    if policy.on_bad_row == "error":
        raise DataError(
            f"{source}, row {row}: {problem.detail}. "
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
    """Count whitespace-separated words over all turns, as LLaVA's length grouping does."""
    return sum(len(turn["value"].replace(IMAGE_TOKEN, "").split()) for turn in raw["conversations"])


def iter_rows(source: Path) -> Iterator[tuple[Any, int]]:
    """Yield `(row, bytes read so far)` of a JSON array, or of JSON lines."""
    try:
        with source.open("rb") as file:
            first = file.read(64).lstrip()[:1]
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}.") from error
    yield from _iter_array(source) if first == b"[" else _iter_lines(source)


def _iter_array(source: Path) -> Iterator[tuple[Any, int]]:
    rows = 0
    with source.open("rb") as file:
        try:
            for raw in ijson.items(file, "item", use_float=True):
                yield raw, file.tell()
                rows += 1
        except ijson.JSONError as error:
            raise DataError(
                f"{source} stops being JSON after {rows} rows (near byte {file.tell():,}): "
                f"{str(error).splitlines()[0]}. The file is cut or damaged: download it again."
            ) from error


def _iter_lines(source: Path) -> Iterator[tuple[Any, int]]:
    offset = 0
    with source.open("rb") as file:
        for number, line in enumerate(file):
            offset += len(line)
            if not line.strip():
                continue
            try:
                raw = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{source}, line {number + 1}: not JSON ({error}). If it is the last line the "
                    "file is cut: download it again."
                ) from error
            yield raw, offset
