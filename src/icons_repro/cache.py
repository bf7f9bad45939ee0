"""What the cache holds, whether it is whole, and what nobody needs.

python -m icons_repro.cache verify     read everything: is it what it was when it was finished?
python -m icons_repro.cache list       every finished step: size, age, who needs it
python -m icons_repro.cache du         bytes of each stage
python -m icons_repro.cache prune      what could go; with --yes it does

A run refers to the steps that its results.json names, and to all that these were made from. A run
without results (it failed, or is under way) refers to nothing, so prune leaves what is younger than
--days alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.progress import track
from rich.table import Table
from rich.text import Text

from icons_repro.core.cache import FINGERPRINT, Cache
from icons_repro.core.claims import WATCH, read_owner
from icons_repro.core.commands import parser_of
from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json
from icons_repro.core.integrity import MANIFEST, PARTS, size_of

DAY = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One finished step."""

    path: Path
    manifest: Mapping[str, Any]
    """Empty if it is cut."""

    @property
    def name(self) -> str:
        """Its fingerprint."""
        return self.path.name

    @property
    def inputs(self) -> list[str]:
        """Fingerprints of what it was made from."""
        return list(self.manifest.get("inputs", {}).values())

    @cached_property
    def size(self) -> int:
        """Bytes of its files."""
        return size_of(self.path)


class Contents:
    """All finished steps of a cache, and the runs that refer to them."""

    def __init__(self, cache: Path, runs: Path) -> None:
        self.cache, self.runs = Cache(cache), runs
        found = [m.parent for m in sorted(cache.glob(f"*/*/{MANIFEST}"))]
        paths = [path for path in found if FINGERPRINT.fullmatch(path.name)]
        manifests = [read_json(path / MANIFEST) for path in paths]
        self.entries = [
            Entry(path, manifest if isinstance(manifest, dict) else {})
            for path, manifest in zip(paths, manifests, strict=True)
        ]

    @cached_property
    def steps_of(self) -> Counter[str]:
        """Fingerprint to the number of finished steps that were made from it."""
        return Counter(read for entry in self.entries for read in set(entry.inputs))

    @cached_property
    def runs_of(self) -> Counter[str]:
        """Fingerprint to the number of runs that refer to it, by themselves or through others."""
        inputs = {entry.name: entry.inputs for entry in self.entries}
        counts: Counter[str] = Counter()
        for path in self.runs.rglob("results.json"):
            results = read_json(path)
            stages = results.get("stages", {}) if isinstance(results, dict) else {}
            reached: set[str] = set()
            ahead = [str(stage.get("fingerprint")) for stage in stages.values()]
            while ahead:
                name = ahead.pop()
                if name not in reached:
                    reached.add(name)
                    ahead += inputs.get(name, [])
            counts.update(reached)
        return counts


def verify(contents: Contents, console: Console) -> int:
    """Read every finished step; print the damaged ones. Returns 1 if there are any."""
    looking = Cache(contents.cache.root, verify=True)
    entries = track(contents.entries, "verifying", console=console, transient=True)
    damaged = {e.path: problem for e in entries if (problem := looking.damage(e.path)) is not None}
    unlisted = sum("files" not in entry.manifest for entry in contents.entries)
    for path, problem in damaged.items():
        console.print(Text(f"{path.relative_to(looking.root)}: {problem}"), soft_wrap=True)
    older = f"; {unlisted} are older than lists of files" if unlisted else ""
    console.print(f"{len(contents.entries)} finished steps, {len(damaged)} damaged{older}.")
    if damaged:
        console.print("A run makes anew what it needs of these: where a size is wrong by itself,")
        console.print("with verify=true in any case.")
    return int(bool(damaged))


def show(contents: Contents, console: Console) -> int:
    """Print every finished step, and how many other steps and runs need it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    for column in ("stage", "what", "fingerprint", "size", "age", "steps", "runs"):
        words = column in ("stage", "what")
        side: JustifyMethod = "left" if words or column == "fingerprint" else "right"
        table.add_column(column, justify=side, overflow="fold", no_wrap=not words)
    for entry in contents.entries:
        table.add_row(
            *(entry.path.parent.name, Text(str(entry.manifest.get("label", "(cut)")))),
            *(entry.name, decimal(entry.size), _words(_age(entry.path / MANIFEST))),
            *(str(contents.steps_of[entry.name]), str(contents.runs_of[entry.name])),
        )
    console.print(Text(f"Cache {contents.cache.root}"), soft_wrap=True)  # a path is never cut
    console.print(table)
    console.print("steps and runs: how many of each need it")
    return 0


def usage(contents: Contents, console: Console) -> int:
    """Print the bytes of each folder of the cache: finished steps, and what else lies there."""
    table = Table(title=f"Cache {contents.cache.root}")
    for column in ("stage", "steps", "finished", "other"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    sums = Counter[str]()
    for folder in sorted(path for path in contents.cache.root.iterdir() if path.is_dir()):
        mine = [entry for entry in contents.entries if entry.path.parent == folder]
        finished = sum(entry.size for entry in mine)
        other = max(size_of(folder) - finished, 0)
        sums.update(steps=len(mine), finished=finished, other=other)
        table.add_row(folder.name, str(len(mine)), decimal(finished), decimal(other))
    table.add_section()
    table.add_row("all", str(sums["steps"]), decimal(sums["finished"]), decimal(sums["other"]))
    console.print(table)
    return 0


@dataclass(frozen=True)
class Waste:
    """Something that could go, and why."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Its bytes."""
        return size_of(self.path) if self.path.is_dir() else self.path.stat().st_size

    def remove(self) -> None:
        """Remove it; what a kill leaves of an artifact is no artifact."""
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
            return
        if FINGERPRINT.fullmatch(self.path.name):
            shutil.rmtree(self.path.rename(self.path.with_suffix(".pruned.damaged")))
        else:
            shutil.rmtree(self.path)


def waste(contents: Contents, days: float) -> Iterator[Waste]:
    """Yield what nobody needs. Raises `UserError` without a folder of runs to say what is."""
    root = contents.cache.root
    if not contents.runs.is_dir():
        raise UserError(f"no runs at {contents.runs}, so all would seem unused: give --runs.")
    for entry in contents.entries:
        if not contents.runs_of[entry.name] and _age(entry.path / MANIFEST) > days * DAY:
            yield Waste(entry.path, "no run refers to it")
    yield from (Waste(path, "damaged") for path in sorted(root.glob("*/*.damaged")))
    for part in sorted(path for path in root.glob("*/*.part") if path.is_dir()):
        if _left(contents.cache, part, days):
            yield Waste(part, "left by a process that has ended")
    for log in sorted(path for path in root.glob("logs/**/*") if path.is_file()):
        if _age(log) > days * DAY:
            yield Waste(log, f"log of more than {days:g} days ago")


def _left(cache: Cache, part: Path, days: float) -> bool:
    """Whether nobody works in an attempt; a shared one has no owner but those of its parts."""
    if not part.name.endswith(".shared.part"):
        return cache.is_dead(part)
    holders = [owner for claim in part.glob(f"{PARTS}/*.claim") if (owner := read_owner(claim))]
    alive = any(not WATCH.dead(owner) for owner in holders)
    newest = min((_age(path) for path in [part, *part.glob(f"{PARTS}/*")]), default=0.0)
    return not alive and newest > days * DAY


def prune(contents: Contents, console: Console, days: float, yes: bool) -> int:
    """Print what could go; with `yes` remove it."""
    found = list(waste(contents, days))
    total = sum(item.size for item in found)
    table = Table()
    for column in ("what", "size", "why"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for item in found:
        table.add_row(str(item.path.relative_to(contents.cache.root)), decimal(item.size), item.why)
    if found:
        console.print(table)
    if yes:
        for item in found:
            item.remove()
    does = "removed" if yes else "not removed: --yes removes" if found else "nothing to remove"
    console.print(f"{len(found)} found, {decimal(total)}, {does}.")
    return 0


def _age(path: Path) -> float:
    """Return the seconds since a file was written."""
    return max(time.time() - path.lstat().st_mtime, 0.0)


def _words(seconds: float) -> str:
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("cache", __doc__)
    output = Path(os.environ.get("ICONS_OUTPUT") or "outputs")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--cache", type=Path, default=output / "cache", help="default: %(default)s")
    shared.add_argument("--runs", type=Path, help="default: runs, beside the cache")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("verify", "list", "du", "prune"):
        command = commands.add_parser(name, parents=[shared])
    command.add_argument("--yes", action="store_true", help="remove what is listed")
    command.add_argument("--days", type=float, default=7.0, help="leave what is younger alone (7)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; return the exit code."""
    given, console = _parser().parse_args(arguments), Console()
    if not given.cache.is_dir():
        sys.stderr.write(f"Error: no cache at {given.cache}: give --cache.\n")
        return 1
    contents = Contents(given.cache, given.runs or given.cache.parent / "runs")
    simple: dict[str, Callable[[Contents, Console], int]] = {
        "verify": verify,
        "list": show,
        "du": usage,
    }
    try:
        if given.command == "prune":
            return prune(contents, console, given.days, given.yes)
        return simple[given.command](contents, console)
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
