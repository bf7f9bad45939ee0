"""What every format is asked for, and what says that a row is unfit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from icons_repro.core.refs import ImagesRef, Ref
from icons_repro.data.validation import RowProblem

Fields = Mapping[str, Any]
"""A row as its format keeps it."""


class UnfitRow(Exception):  # noqa: N818 (it is no error of the program)
    """A row cannot be turned into one of the pool's; the others can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = RowProblem(reason, detail)


@dataclass(frozen=True)
class SourceSpec:
    """One source of rows: what it is, and where it lies."""

    format: str
    """Entry of the registry."""
    files: Ref
    """Its files by content, or the hub's repository at a commit."""
    name: str = ""
    """What its rows are called, in place of what they say of themselves; of a target, the task."""
    subset: str = ""
    split: str = ""
    patterns: tuple[str, ...] = ()
    """Of a dataset, the files to read; empty: those of the split."""
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """Role to the column that has it (turns.py); None: no column has."""
    images: ImagesRef | None = None
    """The folder that image paths are relative to."""
    weight: float = 1.0
    """Copies of each row in the pool; a fraction is the chance of one more."""

    @property
    def paths(self) -> list[Path]:
        """Its files, in order; of the hub's, none."""
        root = Path(self.files.path)
        return [root / name for name in sorted(self.files.files)] or [root]

    @property
    def where(self) -> str:
        """What a message calls it."""
        return self.files.path


class Format(ABC):
    """How the rows of a source are read."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Ends of the names of its files."""
    image_paths: ClassVar[bool] = False
    """Image paths are relative to the file's own folder, unless `images` says another."""

    def shards(self, source: SourceSpec) -> Sequence[str]:
        """Name the parts that can be read on their own, in order: its files."""
        return [str(path) for path in source.paths]

    @abstractmethod
    def rows(
        self, source: SourceSpec, shard: str, wanted: Collection[str]
    ) -> Iterator[Fields | RowProblem]:
        """Yield a shard's rows in order; what can be left unread but the `wanted` fields is.

        Raises `DataError` where the shard is cut or damaged.
        """

    def fields(self, source: SourceSpec, shard: str) -> list[str]:
        """Return the names of what a row has."""
        first = next(self.rows(source, shard, ()), None)
        return sorted(map(str, first)) if isinstance(first, Mapping) else []
