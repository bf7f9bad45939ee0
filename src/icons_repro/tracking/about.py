"""What loggers are told of a run, and what each of them can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class About:
    """What a run is, to those who list runs."""

    folder: Path
    """The run's own folder."""
    name: str
    group: str
    """The sweep that it is part of, or its experiment."""
    config: Mapping[str, Any] = field(default_factory=dict)
    job_type: str = "evaluate"
    tags: tuple[str, ...] = ()
    runs: Path | None = None
    """Folder of all runs, for what a logger keeps of them together."""

    @property
    def shared(self) -> Path:
        """Where that is kept: the folder of all runs, of a run alone its own."""
        return self.runs or self.folder


@dataclass(frozen=True)
class Sheet:
    """A table; its cells are numbers, texts or PIL pictures."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Product:
    """A finished step that the run stands on, where it lies, and what it was made from."""

    name: str
    kind: str
    path: Path
    about: Mapping[str, Any]
    """Its identity: what `manifest.json` says of it, `inputs` among it."""


class Mirror(Protocol):
    """One logger. None of its methods raises: a logger that fails is switched off with a word."""

    kind: str

    def log_step(self, stage: str, line: Mapping[str, float]) -> None:
        """Take one line of a stage's metrics, with its `step`."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Take the final numbers, by flat names."""

    def sheet(self, name: str, sheet: Sheet) -> None:
        """Take a table, where the logger has tables."""

    def lineage(self, products: Sequence[Product]) -> None:
        """Take what the run stands on, where the logger keeps lineage."""

    def describe(self) -> dict[str, Any]:
        """Say for `results.json` where to look."""

    def finish(self, failed: bool) -> None:
        """End it; twice does no harm."""
