"""A gradient store: one preallocated array addressed by row, and what is needed to trust it.

A folder holds, row i being position i,

    rows.bin     n_rows x row_bytes, raw (`RowCodec`)
    norms.bin    float32: length of the row before it was normalised
    scales.bin   float32: what a decoded row is multiplied by to have length 1
    keys.bin     the rows' content keys, 32 bytes each
    info.json    shape, dtype, identities; and, once complete, the count of each status
    status.bin   one byte a row (`RowStatus`), once complete
    marks/       before that: which rows are done, one log for each writer (core/rowfiles.py)

Raw files because they were the fastest to write and to read, and because `kill -9` leaves every
written row readable.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icons_repro.core.errors import DataError
from icons_repro.core.files import write_json
from icons_repro.core.rowfiles import marked
from icons_repro.core.types import KEY_DTYPE
from icons_repro.gradients.rows import RowCodec

FORMAT = 3
STATUS = "status.bin"


class RowStatus(IntEnum):
    """What became of a row; anything but `ok` stays out of every score and vote."""

    pending = 0
    ok = 1
    no_answer_tokens = 2
    non_finite = 3
    zero = 4
    out_of_memory = 5
    unusable = 6
    """The record itself: no image, no conversation (the data's policy is to skip it)."""


@dataclass(frozen=True)
class StoreInfo:
    """What `info.json` says."""

    n_rows: int
    dim: int
    dtype: str
    identities: Mapping[str, Any]
    """What the rows depend on: `model`, `adapter`, `projection`, `direction`, ..., JSON-ready."""
    format: int = FORMAT
    rows: Mapping[str, int] = field(default_factory=dict)
    """Count of each status; empty until the store is complete."""
    made_with: Mapping[str, Any] = field(default_factory=dict)
    """Device, precision and attention kernel of the run that began the store. Rows made with others
    differ by rounding, so stores are never refused for it."""

    def save(self, folder: Path) -> None:
        """Write `info.json` in one step: readers see the old or the new one."""
        write_json(folder / "info.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> StoreInfo:
        """Read `info.json`.

        Raises:
            DataError: there is none, or it is not a store's.
        """
        try:
            raw = json.loads((folder / "info.json").read_text())
            if raw["format"] != FORMAT:
                raise DataError(
                    f"{folder}: store format {raw['format']}, this program reads {FORMAT}. Delete "
                    "the folder and extract again."
                )
            info = cls(**raw)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{folder}: not a gradient store ({error})") from error
        return info


class GradientStore:
    """A complete store, open for reading."""

    def __init__(self, folder: Path, info: StoreInfo) -> None:
        self.folder = folder
        self.info = info
        self.codec = RowCodec(info.dtype, info.dim)
        self.status = self._column("status.bin", np.dtype(np.uint8))
        """uint8 `[N]`, see `RowStatus`."""
        self.norms = self._column("norms.bin", np.dtype(np.float32))
        """float32 `[N]`: lengths of the rows before normalising."""
        self.scales = self._column("scales.bin", np.dtype(np.float32))
        """float32 `[N]`: a decoded row times this has length 1."""
        self.keys = self._column("keys.bin", KEY_DTYPE)
        """Content keys `[N]`, dtype `S32`."""

    @classmethod
    def open(cls, folder: Path | str) -> GradientStore:
        """Open a complete store.

        Raises:
            DataError: it is no store, rows are still pending, or a file has the wrong size.
        """
        folder = Path(folder)
        info = StoreInfo.load(folder)
        if not (folder / STATUS).is_file():
            done = np.count_nonzero(marked(folder, info.n_rows))
            raise DataError(
                f"{folder}: {info.n_rows - done} of {info.n_rows} rows are still missing. Run the "
                "extraction again: it resumes."
            )
        return cls(folder, info)

    def __len__(self) -> int:
        return self.info.n_rows

    @property
    def ok(self) -> np.ndarray:
        """Which rows hold a gradient, bool `[N]`."""
        return self.status == RowStatus.ok

    def excluded(self) -> list[tuple[int, str]]:
        """Return (position, reason) of every row that holds none."""
        return [(int(i), RowStatus(self.status[i]).name) for i in np.flatnonzero(~self.ok)]

    def read(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return rows `start .. stop - 1`, normalised, float32 `[n, dim]` (zeros if excluded)."""
        stop = len(self) if stop is None else stop
        size = self.codec.row_bytes
        path, n = self.folder / "rows.bin", stop - start
        raw = np.fromfile(path, np.uint8, n * size, offset=start * size)
        rows = self.codec.decode(torch.from_numpy(raw).view(n, size))
        return rows.mul_(torch.from_numpy(self.scales[start:stop, None]))

    def _column(self, name: str, dtype: np.dtype) -> np.ndarray:
        path = self.folder / name
        values = np.fromfile(path, dtype) if path.is_file() else np.empty(0, dtype)
        if len(values) != self.info.n_rows:
            raise DataError(
                f"{path}: {len(values)} rows; info.json promises {self.info.n_rows}. "
                "Delete the folder and extract again."
            )
        return values


def status_counts(status: np.ndarray) -> dict[str, int]:
    """Return how many rows have each status, by name, those that occur."""
    return {RowStatus(code).name: n for code, n in sorted(Counter(status.tolist()).items())}


def require_same(
    what: Sequence[str], a: GradientStore | StoreInfo, b: GradientStore | StoreInfo, names: str
) -> None:
    """Refuse two stores whose named identities differ.

    Args:
        what: the identities that must be equal, e.g. `("model", "adapter", "projection")`.
        names: both stores in words, for the message.

    Raises:
        DataError: names the identity and both values.
    """
    one = a.info if isinstance(a, GradientStore) else a
    two = b.info if isinstance(b, GradientStore) else b
    for name in what:
        left, right = one.identities.get(name), two.identities.get(name)
        if left != right:
            raise DataError(
                f"{names}: different {name}: {json.dumps(left)} and {json.dumps(right)}. "
                "Gradients taken with different ones are not comparable; extract one of them again."
            )
