"""The nouns that every part of the harness shares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KEY_DTYPE = np.dtype("S32")
"""A content key is 32 hexadecimal characters, kept as ASCII bytes: 32 bytes a row."""
IMAGE_TOKEN = "<image>"
"""What stands for an image in LLaVA's files, and in the chat templates that ship."""
MEASURED = "measured"
NO_TASKS = ("position", "key", MEASURED)
"""Columns of an influence matrix's file that are no task's."""


def content_key(raw: Mapping[str, Any]) -> str:
    """Return the record's identity: a 128-bit BLAKE2b of its canonical JSON, in hexadecimal.

    `id` fields repeat in LLaVA-665K, so they are never a key. Two rows with the same key hold the
    same text and image path; their positions tell them apart.
    """
    text = json.dumps(raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def dialogue(turns: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """Return the turns from the first question on: an answer to nothing is left out.

    Source: llava/train/train.py of haotian-liu/LLaVA, `preprocess_v1` ("Skip the first one if it
    is not from human").
    """
    return turns[1:] if turns[0]["from"] == "gpt" else turns


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a pool or of a target task, in LLaVA's schema."""

    position: int
    """Row number in the file it came from, from 0."""
    key: str
    raw: Mapping[str, Any]
    """The row as it stands in the file."""
    images: tuple[str, ...]
    """Image paths relative to the image folder; empty for a text-only row."""
    source: str
    """Where the row came from: its `source` or `task_name`, its image's top folder, or "text"."""

    @property
    def conversations(self) -> Sequence[Mapping[str, str]]:
        """The turns, each `{"from": "human" | "gpt", "value": str}`, a question first."""
        return dialogue(self.raw["conversations"])


@dataclass(frozen=True)
class InfluenceMatrix:
    """Mean influence of every pool row on every target task."""

    values: np.ndarray
    """float32 `[N, T]`; a row of NaN was excluded (its gradient could not be taken)."""
    tasks: tuple[str, ...]
    keys: np.ndarray
    """Content keys `[N]`, dtype `S32`, in pool order."""
    measured: np.ndarray | None = None
    """Of a cascade: whether the row came through, bool `[N]`; None where every row did. A row that
    did not is below all that did for every task, and has no vote."""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.keys), len(self.tasks)):
            raise ValueError(
                f"influence of shape {self.values.shape} does not fit "
                f"{len(self.keys)} keys x {len(self.tasks)} tasks"
            )

    def save(self, path: Path) -> None:
        """Write parquet: `position`, `key`, then one float32 column per task, in pool order.

        Of a cascade also `measured`.
        """
        columns: dict[str, Any] = {
            "position": pa.array(np.arange(len(self.keys), dtype=np.int64)),
            "key": pa.array(self.keys.astype("U32")),
        }
        for j, task in enumerate(self.tasks):
            columns[task] = pa.array(np.ascontiguousarray(self.values[:, j], dtype=np.float32))
        if self.measured is not None:
            columns[MEASURED] = pa.array(self.measured)
        pq.write_table(pa.table(columns), path)

    @classmethod
    def load(cls, path: Path) -> InfluenceMatrix:
        """Read what `save` wrote."""
        table = pq.read_table(path)
        tasks = tuple(name for name in table.column_names if name not in NO_TASKS)
        values = np.column_stack([table[t].to_numpy() for t in tasks]).astype(np.float32)
        keys, some = table["key"].to_numpy().astype(KEY_DTYPE), MEASURED in table.column_names
        measured = table[MEASURED].to_numpy(zero_copy_only=False) if some else None
        return cls(values, tasks, keys, measured)


@dataclass(frozen=True)
class Pool:
    """What a selector sees of the pool: arrays in pool order, never models or images."""

    keys: np.ndarray
    """Content keys `[N]`, dtype `S32`."""
    sources: np.ndarray
    """Source name of each row `[N]`, str."""
    words: np.ndarray
    """Words of each row's turns, questions and answers together `[N]`, int64."""
    has_image: np.ndarray
    """Whether the row has an image `[N]`, bool."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Loaded artifacts by the name that a selector put in `requires`."""
    device: str = "cpu"
    """Where clustering and exact neighbour search run: "cpu" (faiss), or a device of torch."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class TieStatistics:
    """How much of a selection the tie rule decided."""

    threshold: float
    """Primary score of the last row taken."""
    above: int
    """Rows strictly above the threshold: all taken."""
    tied: int
    """Rows exactly at the threshold."""
    taken_of_tied: int
    """How many of those the secondary keys let in."""


@dataclass(frozen=True)
class Selection:
    """The rows a selector chose, and why."""

    positions: np.ndarray
    """Distinct pool positions, int64, ascending `[k]`."""
    scores: np.ndarray
    """The method's score of every pool row `[N]`, float64; NaN where it has none."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """More per-row columns for `scores.parquet`, each `[N]`: votes, one per task, clusters."""
    ties: TieStatistics | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Counts a reader should know (rows excluded and why, coverage of each task), JSON-ready."""
