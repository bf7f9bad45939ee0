"""What embeds rows by itself, as the steps that run it know it (`sources/base.py` makes them)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from icons_repro.core.registry import Kind
from icons_repro.core.types import Record


class Embedder(ABC):
    """Gives each row a vector."""

    name: ClassVar[str]

    @abstractmethod
    def embed(self, records: Iterator[Record], images: Path) -> np.ndarray:
        """Return a vector for each record, float `[n, d]`, for pool and validation rows alike.

        Vectors are compared by cosine; a row of NaN is excluded. `images` is the folder that
        `record.images` are relative to.
        """


EMBEDDERS: Kind[Embedder] = Kind(
    key="influence",
    base=Embedder,  # type: ignore[type-abstract]
    package="icons_repro.influence.sources",
    noun="source that embeds rows",
    advice="Such a source is a class that extends OwnSource (influence/sources/base.py).",
)
