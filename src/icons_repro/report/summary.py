"""What a run prints at its end: the table, where the files are, what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from icons_repro.evaluation.relative import Relative
from icons_repro.report.lines import THIS_RUN
from icons_repro.report.results import RunResults
from icons_repro.report.tables import Results, end_table, relative_text

if TYPE_CHECKING:
    from rich.console import Console


def print_summary(
    results: RunResults,
    lines: Mapping[str, Results],
    blind: Mapping[str, float],
    relatives: Mapping[str, Relative | None],
    files: Mapping[str, Path],
    try_next: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print the end of a run.

    `relatives` maps what is said ("relative to full data") to the number; `files` a name to a path;
    `try_next` holds commands.
    """
    from rich.console import Console

    console = console or Console()
    title = (
        f"{results.selector} at {100 * results.budget:g}% of {results.setup} "
        f"({results.n_selected:,} of {results.n_pool:,} rows, seed {results.seed})"
    )
    console.print()
    if lines:
        console.print(end_table(lines, blind, title))
    for what, relative in relatives.items():
        if relative is not None:
            console.print(f"{what}: [bold]{relative_text(relative)}[/]", highlight=False)
            _say_what_is_missing(console, relative)
    for name, result in lines.get(THIS_RUN, {}).items():
        if result["status"] != "ok":
            console.print(f"[yellow]{name} not available:[/] {result['reason']}", highlight=False)
    print_files(files, console)
    if try_next:
        console.print("\n[bold]Try next[/]")
        for command in try_next:
            console.print(f"  {command}", highlight=False, soft_wrap=True)


def _say_what_is_missing(console: Console, relative: Relative) -> None:
    for reason in dict.fromkeys(relative.left_out.values()):
        names = ", ".join(name for name, why in relative.left_out.items() if why == reason)
        console.print(f"  [dim]without {names}: {reason}[/]", highlight=False)
    if relative.note:
        console.print(f"  [dim]no interval: {relative.note}[/]", highlight=False)


def print_files(files: Mapping[str, Path], console: Console | None = None) -> None:
    """Print a list of names and paths, if there are any."""
    from rich.console import Console

    console = console or Console()
    if not files:
        return
    width = max(len(name) for name in files)
    console.print("\n[bold]Files[/]")
    for name, path in files.items():
        console.print(f"  {name:<{width}}  {short_path(path)}", highlight=False, soft_wrap=True)


def short_path(path: Path) -> str:
    """Return the path relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
