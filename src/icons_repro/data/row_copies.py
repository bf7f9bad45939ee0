"""Some rows of a records file as a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from icons_repro.data.records import BATCH_ROWS


def copy_rows(source: Path, positions: np.ndarray, out: Path) -> None:
    """Write the rows at `positions`, ascending `[n]`, n > 0, as `RecordTable` reads them.

    A few batches are in memory at once.
    """
    reader = pa.ipc.open_file(pa.memory_map(str(source)))
    with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
        for batch in _full_batches(_taken(reader, positions), reader.schema):
            writer.write_batch(batch)


def _taken(reader: pa.ipc.RecordBatchFileReader, positions: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield what is taken of each batch."""
    starts = np.arange(reader.num_record_batches + 1) * BATCH_ROWS
    bounds = np.searchsorted(positions, starts)
    for number, (low, high) in enumerate(pairwise(bounds)):
        if high > low:
            rows = pa.array(positions[low:high] - starts[number])
            yield reader.get_batch(number).take(rows)


def _full_batches(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield batches of `BATCH_ROWS` rows, and the rest."""
    held = schema.empty_table()
    for batch in batches:
        held = pa.concat_tables([held, pa.Table.from_batches([batch], schema)])
        while held.num_rows >= BATCH_ROWS:
            yield held.slice(0, BATCH_ROWS).combine_chunks().to_batches()[0]
            held = held.slice(BATCH_ROWS)
    if held.num_rows:
        yield held.combine_chunks().to_batches()[0]
