"""Tables as text, for a terminal of 80 columns or for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icons_repro.evaluation.intervals import Estimate
from icons_repro.report.lines import RANDOM
from icons_repro.report.rows import SweepRow
from icons_repro.report.runs import Replicate
from icons_repro.report.sweep import Sweep

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DASH = "-"
WIDTH = 80
NARROWEST = 20
"""What the first column is folded to, in characters, where numbers need the room."""
GAP, DIVIDER = 2, 1
"""Characters between two columns: padding, and the box's blank divider."""
MARKS = ((0.01, "**"), (0.05, "*"))
"""Corrected p-values below which a difference is marked."""


@dataclass(frozen=True)
class Cells:
    """A table as text; its first column is a name, the others are numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def rich(self) -> Table:
        """Return it for the terminal: only the first column may be folded, no number is cut."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title) if self.title else None, title_justify="left",
            header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP, 0, 0),
            collapse_padding=True, show_edge=False,
        )  # fmt: skip
        for i, heading in enumerate(self.headings):
            if i:
                table.add_column(heading, justify="right", no_wrap=True)
            else:
                table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def show(self, console: Console) -> None:
        """Print the table and its notes."""
        console.print()
        console.print(self.rich(), highlight=False)
        for note in self.notes:
            for line in textwrap.wrap(note, console.width, subsequent_indent="  "):
                console.print(line, style="dim", markup=False, highlight=False)

    def markdown(self) -> str:
        """Return it for a page."""
        lines = [self.headings, ("---", *("---:" for _ in self.headings[1:])), *self.rows]
        table = ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines]
        return "\n".join([f"{self.title}:", "", *table, *(f"\n{note}." for note in self.notes), ""])

    @property
    def width(self) -> int:
        """How many characters it needs, with the first column folded."""
        columns = zip(self.headings, *self.rows, strict=True)
        widths = [max(len(cell) for cell in column) for column in columns]
        return min(widths[0], NARROWEST) + sum(GAP + DIVIDER + width for width in widths[1:])


def sweep_tables(found: Sequence[Sweep], width: int | None = WIDTH) -> list[Cells]:
    """Return one table for each sweep; benchmarks that do not fit beside it stand below it.

    Its title stands once, above all that belongs to it.
    `width=None` keeps everything in one table, for a page.
    """
    return [table for sweep in found for table in _tables(sweep, width)]


def _tables(sweep: Sweep, width: int | None) -> list[Cells]:
    names = list(dict.fromkeys(name for row in sweep.rows for name in row.benchmarks))
    title = f"{sweep.setup} ({sweep.scale} scale), {100 * sweep.budget:g}% of the pool"
    title += f"; {sweep.world}" if sweep.world else ""
    notes = _notes(sweep)
    whole = Cells(title, *_columns(sweep, [*_summary(sweep), *_scores(names)]), notes)
    if width is None or whole.width <= width:
        return [whole]
    tables = [Cells(title, *_columns(sweep, _summary(sweep)), notes)]
    while names:
        count = _how_many_fit(sweep, names, width)
        below = _columns(sweep, _scores(names[:count]))
        tables.append(Cells("scores by benchmark" if len(tables) == 1 else "", *below))
        names = names[count:]
    return tables


Column = tuple[str, Callable[[SweepRow], str]]


def _columns(
    sweep: Sweep, columns: Sequence[Column]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    headings = ("method", *(heading for heading, _ in columns))
    return headings, tuple((row.method, *(cell(row) for _, cell in columns)) for row in sweep.rows)


def _summary(sweep: Sweep) -> list[Column]:
    columns: list[Column] = [
        ("runs", lambda row: str(len(row.replicates))),
        ("Rel. %", lambda row: mean_text(row.relative)),
    ]
    if sweep.blind_over:
        columns.append(("above blind %", lambda row: mean_text(row.above_blind)))
    if any(row.against_random for row in sweep.rows):
        columns.append((f"minus {RANDOM}", difference_text))
    return columns


def _scores(names: Sequence[str]) -> list[Column]:
    def score(name: str) -> Callable[[SweepRow], str]:
        return lambda row: mean_text(row.benchmarks.get(name))

    return [(name, score(name)) for name in names]


def _how_many_fit(sweep: Sweep, names: Sequence[str], width: int) -> int:
    for count in range(len(names), 1, -1):
        if Cells("", *_columns(sweep, _scores(names[:count]))).width <= width:
            return count
    return 1


def _notes(sweep: Sweep) -> tuple[str, ...]:
    notes = [f"± is half of the 95% interval over {_covered(sweep)}"]
    notes.append(f"Rel. over {len(sweep.relative_over)}: {', '.join(sweep.relative_over) or DASH}")
    if sweep.blind_over == sweep.relative_over:
        notes[-1] = notes[-1].replace("Rel. over", "Rel. and above blind over")
    elif sweep.blind_over:
        notes.append(f"above blind over {len(sweep.blind_over)}: {', '.join(sweep.blind_over)}")
    notes += without(sweep.left_out)
    compared = sum(row.against_random is not None for row in sweep.rows)
    if compared:
        what = "above blind" if sweep.blind_over else "Rel."
        notes.append(
            f"minus {RANDOM}: paired by pool and seed, points of {what}; * p < .05, ** p < .01, "
            f"by Holm's correction over {compared} method(s)"
        )
    return (*notes, *sweep.notes)


def without(left_out: Mapping[str, str]) -> list[str]:
    """Say which benchmarks are outside a mean, once for each reason."""
    return [
        f"without {', '.join(name for name, why in left_out.items() if why == reason)}: {reason}"
        for reason in dict.fromkeys(left_out.values())
    ]


def _covered(sweep: Sweep) -> str:
    found = [row.relative for row in sweep.rows if row.relative and row.relative.known]
    replicates = {replicate for row in sweep.rows for replicate in row.replicates}
    return covered(replicates, any(one.shared is not None for one in found))


def covered(replicates: Collection[Replicate], with_answers: bool) -> str:
    """Say what intervals over these pools and seeds are about."""
    pools = {replicate.pool or replicate.more for replicate in replicates}
    parts = [f"{len(pools)} pools"] if len(pools) > 1 else []
    if len(pools) == 1 and len(replicates) > 1:
        parts.append(f"{len(replicates)} seeds on one pool")
    parts += ["test questions"] if with_answers or not parts else []
    text = " and ".join(parts)
    return text if len(pools) > 1 else f"{text}: another pool may differ by more"


def mean_text(interval: Estimate | None) -> str:
    """Return "97.2 ±1.4"; no half-width where nothing is known about the error."""
    if interval is None:
        return DASH
    if not interval.known:
        return f"{interval.value:.1f}"
    return f"{interval.value:.1f} ±{interval.interval()[1] - interval.value:.1f}"


def signed(interval: Estimate) -> str:
    """Return "+8.4 ±5.1"; what rounds to nothing is "+0.0"."""
    text = mean_text(interval).removeprefix("-")
    return f"{'-' if round(interval.value, 1) < 0 else '+'}{text}"


def difference_text(row: SweepRow) -> str:
    """Return "+8.4 ±5.1 *": the difference to random, and whether it can be told from none."""
    if row.against_random is None:
        return DASH
    mark = next((f" {mark}" for level, mark in MARKS if row.p_value < level), "")
    return f"{signed(row.against_random)}{mark}"
