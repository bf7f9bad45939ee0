"""What a running step gets: where to write, where its inputs are, whom to tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icons_repro.core.files import read_json, write_json
from icons_repro.core.integrity import PARTS

if TYPE_CHECKING:
    from icons_repro.core.cache import Cache
    from icons_repro.core.step import Step

log = logging.getLogger(__name__)
OnMetrics = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Work:
    """One attempt at a step."""

    out: Path
    """The folder to fill; renamed into place when it is whole."""
    cache: Cache
    chunks: int = 1
    """Into how many parts a shared step cuts its work."""
    on_metrics: OnMetrics | None = None
    """Called with each line of training metrics as it is made."""

    @property
    def notes(self) -> Path:
        """Where the workers of a shared attempt leave word for one another; no part of it."""
        return self.out / PARTS

    def begun_with(self, name: str, value: int) -> int:
        """Return the number that a shared attempt was begun with; the first to ask gives `value`.

        What parts mean follows from it, so all workers need the same, and whoever goes on with an
        attempt. The first to ask is the one worker that names the parts.
        """
        file = self.notes / f"{name}.json"
        known: int | None = read_json(file)
        if known is None:
            write_json(file, value)
        elif known != value:
            log.info("goes on in parts of %s=%d, with which it was begun", name, known)
        return value if known is None else known

    def path(self, step: Step) -> Path:
        """Return the folder of a finished input."""
        return self.cache.path(step)
