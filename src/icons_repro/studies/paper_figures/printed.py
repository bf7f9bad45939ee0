"""The paper's tables as printed, and Rel.(%) computed again from their rows.

    Rel.(%) = 100 * mean_b(score_b / full_b)

unweighted over the benchmarks b of a table. These numbers are the authors', of their machines; no
run of this package made any of them, and none of them shares a table or an axis with one that did.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import DataError
from icons_repro.report.cells import Cells

PRINTED = "rel_printed"
FULL = "full"
ROUNDING = 0.1
"""Scores and Rel. are printed to one decimal: a larger difference is no rounding."""


@dataclass(frozen=True)
class PrintedTable:
    """One table of the paper."""

    file: str
    title: str
    full_from: str = ""
    """The table that has the full-data row, where this one has none."""


TABLES = (
    PrintedTable("main_20pct", "methods at 20%"),
    PrintedTable("aggregation_20pct", "aggregation rules at 20%", "main_20pct"),
    PrintedTable("unseen_20pct", "unseen tasks at 20%"),
    PrintedTable("transfer_13b_20pct", "selected by 7B or 13B, trained 13B, 20%"),
)
CURVE, OVERLAP = "ratio_curve", "specialist_overlap"


@dataclass(frozen=True)
class PrintedRow:
    """One row of a table: its Rel. in percent as printed and as its scores give it."""

    name: str
    printed: float
    recomputed: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return abs(self.printed - self.recomputed) <= ROUNDING


def read_table(path: Path) -> dict[str, dict[str, float]]:
    """Return a table's numbers by row and column; lines with # are remarks.

    Raises `DataError` naming file and row for a missing file or for what is no number.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there: restore it from the repository.")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    found: dict[str, dict[str, float]] = {}
    for row in csv.reader(lines[1:]):
        names = lines[0].split(",")[1:]
        try:
            numbers = map(float, row[1:])
            found[row[0]] = dict(zip(names, numbers, strict=True))
        except ValueError as error:
            raise DataError(f"{path}, row {row[0]}: {error}") from error
    return found


def rows_of(folder: Path, table: PrintedTable) -> list[PrintedRow]:
    """Compute the Rel. of every row of a table again."""
    rows = read_table(folder / f"{table.file}.csv")
    full = read_table(folder / f"{table.full_from}.csv")[FULL] if table.full_from else rows[FULL]
    return [PrintedRow(name, row[PRINTED], _relative(row, full)) for name, row in rows.items()]


def _relative(row: dict[str, float], full: dict[str, float]) -> float:
    shares = [score / full[name] for name, score in row.items() if name != PRINTED]
    return 100 * sum(shares) / len(shares)


def cells(folder: Path, table: PrintedTable) -> Cells:
    """Return printed and recomputed Rel. side by side."""
    rows = rows_of(folder, table)
    shown = tuple(
        (row.name, f"{row.printed:.1f}", f"{row.recomputed:.2f}",
         "" if row.agrees else f"{row.recomputed - row.printed:+.2f}")
        for row in rows
    )  # fmt: skip
    source = f"full data: its row in {table.full_from}.csv" if table.full_from else ""
    apart = [row.name for row in rows if not row.agrees]
    said = f"more than rounding apart: {', '.join(apart)}" if apart else "all within rounding"
    headings = ("row", "Rel. printed", "recomputed", "difference")
    title = f"As printed in the paper, {table.title}"
    return Cells(title, headings, shown, (said, *([source] if source else [])))
