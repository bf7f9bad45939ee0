"""What a rank failed of, told to the process that started the ranks.

torchrun's exit code says only that one failed. The others then fail too, of the connection to it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import torch.distributed

from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json, write_json

NOTE = "failed-{rank}.json"


class RankError(RuntimeError):
    """A rank of a training run failed, of what the text says."""

    def __init__(self, said: str, lost: bool) -> None:
        super().__init__(said)
        self.lost = lost
        """Whether all that is known is that the others were gone."""


def note_failure(out: Path, rank: int, error: BaseException) -> None:
    """Leave in the run's folder what a rank failed of, unless the disk does not take it."""
    note = {
        "rank": rank,
        "time": time.time(),
        "error": type(error).__name__,
        "says": str(error),
        "user": isinstance(error, UserError),
        "lost": isinstance(error, torch.distributed.DistError) or "gloo" in str(error),
    }
    with suppress(OSError):  # a full disk may be the error itself
        write_json(out / NOTE.format(rank=rank), note)


def take_failure(out: Path) -> UserError | RankError | None:
    """Return what failed first, a lost connection last, and remove the notes of all ranks."""
    files = sorted(out.glob(NOTE.format(rank="*")))
    notes = [note for file in files if (note := read_json(file)) is not None]
    for file in files:
        file.unlink(missing_ok=True)
    if not notes:
        return None
    first = min(notes, key=lambda note: (note["lost"], note["time"]))
    if first["user"]:
        return UserError(first["says"])
    said = f"rank {first['rank']}: {first['error']}: {first['says']}"
    if first["lost"]:
        said = f"a worker died, or the connection to it did ({said})"
    return RankError(said, first["lost"])
