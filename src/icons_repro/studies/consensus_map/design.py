"""Which worlds and budgets the map of consensus is made of: an orthogonal array, fixed by a seed.

Five factors of five levels would be 3,125 cells. Of these, 25 are taken so that every two levels of
any two factors meet exactly once (an orthogonal array of strength 2, Bose 1938, by
`scipy.stats.qmc.LatinHypercube`). So each level is in five cells, with every level of every other
factor once: the mean over these five compares levels with all else equal. What the array cannot do
is tell a factor's own effect from what two others do together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import DataError
from icons_repro.studies.csv_rows import read_rows, write_rows

FILE = "design.csv"
SEED = 0
LEVELS: Mapping[str, Sequence[float]] = {
    "target_share": (0.10, 0.17, 0.30, 0.45, 1.0),
    "mislabelled_share": (0.0, 0.05, 0.1, 0.2, 0.4),
    "tasks": (2, 3, 4, 6, 8),
    "overlap": (0.0, 0.25, 0.5, 0.75, 1.0),
    "budget": (0.05, 0.1, 0.2, 0.4, 0.6),
}
"""Of the pool that serves the targets; of that with wrong answers; target tasks, and the share of
each that is the same in all; of the pool that is kept."""
FIRST_SEED, POOLS_A_CELL = 10_000, 100
"""Where the seeds of cells begin, and how many each has: no two cells share a pool."""


@dataclass(frozen=True)
class Cell:
    """One line of `design.csv`."""

    cell: int
    target_share: float
    mislabelled_share: float
    tasks: int
    overlap: float
    budget: float

    def seed(self, pool: int) -> int:
        """Return `data.world.seed` of one of its pools, counted from 1."""
        return FIRST_SEED + POOLS_A_CELL * self.cell + pool

    def level(self, factor: str) -> float:
        """Return its level of a factor."""
        return float(getattr(self, factor))

    def overrides(self, pool: int) -> list[str]:
        """Return what the command line says of one of its pools."""
        world = ("target_share", "mislabelled_share", "tasks", "overlap")
        told = [f"data.world.{name}={getattr(self, name)}" for name in world]
        told += [f"budget={self.budget}", f"selector.floor={self.floor:.4f}"]
        return [*told, f"data.world.seed={self.seed(pool)}"]

    @property
    def floor(self) -> float:
        """The largest floor that fits tasks which share no row: an equal part for each."""
        return math.floor(10_000 / self.tasks) / 10_000


def cell_of(seed: int) -> int:
    """Return the cell whose pool a seed is."""
    return (seed - FIRST_SEED) // POOLS_A_CELL


def make_design(seed: int = SEED) -> list[Cell]:
    """Draw the array."""
    from scipy.stats import qmc

    size = len(next(iter(LEVELS.values())))
    drawn = qmc.LatinHypercube(d=len(LEVELS), strength=2, rng=seed).random(size**2)
    places = (drawn * size).astype(int)
    cells = []
    for number, row in enumerate(places, start=1):
        told = {name: LEVELS[name][place] for name, place in zip(LEVELS, row, strict=True)}
        cells.append(Cell(number, **told | {"tasks": int(told["tasks"])}))
    return cells


def read_design(folder: Path) -> list[Cell]:
    """Read `design.csv`, writing it first where there is none.

    Raises `DataError` if a cell has a number twice or a level that is none of `LEVELS`.
    """
    path = folder / FILE
    if not path.is_file():
        write_rows(path, make_design(), Cell)
    cells = read_rows(path, Cell)
    if len({cell.cell for cell in cells}) < len(cells):
        raise DataError(f"{path}: a number stands before two cells.")
    for cell in cells:
        for factor, levels in LEVELS.items():
            if cell.level(factor) not in levels:
                raise DataError(
                    f"{path}, cell {cell.cell}: {factor} {cell.level(factor):g} is none of "
                    f"{', '.join(f'{level:g}' for level in levels)}."
                )
    return cells
