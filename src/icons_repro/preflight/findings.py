"""What preflight found: one line each, with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

MARKS = {"ok": "[green]ok", "warning": "[yellow]warning", "problem": "[red]problem"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Literal["ok", "warning", "problem"]
    """A `problem` would make the run fail; a `warning` leaves something out of it."""
    what: str
    """What was looked at: pool, images, disk, ..."""
    found: str
    remedy: str = ""


def would_fail(findings: Sequence[Finding]) -> bool:
    """Return whether any finding is a problem."""
    return any(finding.level == "problem" for finding in findings)


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print one page: a line for each finding, then the verdict."""
    console = console or Console()
    table = Table(title="Preflight", title_justify="left")
    for column in ("", "what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        said = (Text(text) for text in (finding.what, finding.found, finding.remedy))
        table.add_row(MARKS[finding.level], *said)
    console.print(table)
    problems = sum(finding.level == "problem" for finding in findings)
    console.print(
        f"{problems} problem(s): the run would fail." if problems else "Nothing would stop the run."
    )
