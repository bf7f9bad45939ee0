"""What a running step gets: where to write, where its inputs are, whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icons_repro.core.cache import Cache
    from icons_repro.core.step import Step

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

    def path(self, step: Step) -> Path:
        """Return the folder of a finished input."""
        return self.cache.path(step)
