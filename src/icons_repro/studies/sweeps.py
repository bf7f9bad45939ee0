"""Sweeps of the command line, run one after the other, and their runs as rows."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from icons_repro.core.errors import DataError, UserError
from icons_repro.report.lines import FULL, RANDOM
from icons_repro.report.runs import BLIND, SweepRun, collect
from icons_repro.studies.rows import Row, rows_of

log = logging.getLogger(__name__)

REFERENCES = (FULL, RANDOM, BLIND)
"""What every run is compared with: no sweep names them."""


def jobs_of(overrides: Sequence[str]) -> int:
    """Return how many runs a sweep has: the product of what its overrides list.

    As in Hydra, commas outside of brackets part the values. Raises `UserError` naming an override
    whose brackets do not match.
    """
    return math.prod(_values(override) for override in overrides)


def _values(override: str) -> int:
    depth, found = 0, 1
    for letter in override.partition("=")[2]:
        depth += (letter in "[{(") - (letter in "]})")
        found += letter == "," and depth == 0
        if depth < 0:
            break
    if depth:
        raise UserError(f"{override} cannot be read: its brackets do not match.")
    return found


def sweep(overrides: Sequence[str]) -> int:
    """Run one sweep in a process of its own; return its exit code."""
    command = [sys.executable, "-m", "icons_repro", "-m", *overrides]
    log.info("python %s", " ".join(command[1:]))
    return subprocess.run(command).returncode


def runs_below(folder: Path) -> list[SweepRun]:
    """Return the runs below a folder; one that is not there, or is empty, has none."""
    try:
        return collect([folder]) if folder.is_dir() else []
    except UserError:
        return []


def rows_below(runs: Iterable[SweepRun], vary: Sequence[str] = ()) -> list[Row]:
    """Return the rows of some runs; a run whose cache is gone is named and left out.

    Settings named in `vary` that a run has join those of its selector: a warm-up's share makes
    another method, though the selector is the same.
    """
    found: list[Row] = []
    for run in runs:
        try:
            found += [_varied(row, run, vary) for row in rows_of(run)]
        except DataError as error:
            log.warning("left out: %s", error)
    return found


def _varied(row: Row, run: SweepRun, vary: Sequence[str]) -> Row:
    if row.selector in REFERENCES:
        return row
    settings = run.settings or {}
    more = {key: settings[key] for key in vary if key in settings}
    return replace(row, settings=json.dumps(json.loads(row.settings) | more, sort_keys=True))


def methods_in(rows: Iterable[Row]) -> int:
    """Count the different methods among some rows, budgets apart, without the references."""
    return len({row.key for row in rows if row.selector not in REFERENCES})
