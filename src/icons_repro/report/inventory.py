"""What lies in a folder of runs: the finished, and why each of the others is not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_json
from icons_repro.report.results import FILE, read_results
from icons_repro.report.runs import SweepRun, settings_of

CONFIG = "config.yaml"
FAILURE = "failure.json"
"""Beside a run's `config.yaml` while its last try has failed: the cause."""


@dataclass(frozen=True)
class Unfinished:
    """A folder that enters no number."""

    folder: Path
    state: str
    """"failed", "half-finished" or "foreign"."""
    reason: str


@dataclass(frozen=True)
class Inventory:
    """All there is below some folders."""

    runs: tuple[SweepRun, ...]
    """Oldest first."""
    unfinished: tuple[Unfinished, ...]


def take_inventory(roots: Iterable[Path]) -> Inventory:
    """Read every run below some folders; one that cannot be read is listed, and stops nothing."""
    runs: list[tuple[float, SweepRun]] = []
    others: list[Unfinished] = []
    for folder in _folders(roots):
        path = folder / FILE
        if failed := read_json(folder / FAILURE):
            cause = failed.get("cause") if isinstance(failed, dict) else None
            others.append(Unfinished(folder, "failed", str(cause or "it does not say why")))
        elif not path.is_file():
            others.append(Unfinished(folder, "half-finished", f"it has no {FILE} yet"))
        else:
            try:
                run = SweepRun(read_results(path), settings_of(folder / CONFIG), folder)
                json.dumps(run.results.benchmarks)
                runs.append((path.stat().st_mtime, run))
            except (DataError, ValueError, TypeError, AttributeError) as error:
                others.append(Unfinished(folder, "foreign", str(error)))
    ordered = sorted(runs, key=lambda entry: entry[0])
    return Inventory(tuple(run for _, run in ordered), tuple(others))


def _folders(roots: Iterable[Path]) -> list[Path]:
    """Return every folder with a run's config or results; inside of one nothing is looked for."""
    found = set()
    for root in roots:
        for folder, below, names in os.walk(root):
            if CONFIG in names or FILE in names:
                found.add(Path(folder))
                below.clear()
    return sorted(found)


def record_failure(folder: Path, cause: str) -> None:
    """Leave the cause in a run's folder, for a later look at the sweep."""
    write_json(folder / FAILURE, {"cause": cause})


def forget_failure(folder: Path) -> None:
    """Take back what `record_failure` left: the run has been made."""
    (folder / FAILURE).unlink(missing_ok=True)
