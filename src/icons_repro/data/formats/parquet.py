"""Parquet files with images inside: structs of `bytes` and `path`, as `datasets` has, or bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from icons_repro.core.errors import DataError
from icons_repro.data.formats.base import Fields, Format, SourceSpec

BATCH = 64
"""Rows held at once; each may bring megabytes of images."""


class Parquet(Format):
    """One shard a file."""

    suffixes = (".parquet",)

    def rows(self, source: SourceSpec, shard: str, wanted: Collection[str]) -> Iterator[Fields]:
        """Read the wanted columns, some rows at a time."""
        try:
            with pq.ParquetFile(shard) as file:
                columns = [name for name in file.schema_arrow.names if name in wanted]
                for batch in file.iter_batches(BATCH, columns=columns or None):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{shard} is no whole parquet file ({error}). It is cut or damaged: download it "
                "again."
            ) from error

    def fields(self, source: SourceSpec, shard: str) -> list[str]:
        """Return the columns, which the schema says."""
        return sorted(pq.read_schema(shard).names)
