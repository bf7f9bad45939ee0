"""Where each step's log and description are."""

from __future__ import annotations

import re
from pathlib import Path

from icons_repro.core.cache import Cache
from icons_repro.core.files import write_text
from icons_repro.core.step import Step
from icons_repro.core.step_json import to_json


def log_of(cache: Cache, step: Step) -> Path:
    """Return the file that a step's output goes to when it runs in a process of its own."""
    return cache.root / "logs" / step.stage / f"{step.fingerprint}.log"


def describe(cache: Cache, step: Step) -> Path:
    """Write the step as JSON, for `python -m icons_repro.step FILE`, and return the file."""
    path = cache.root / "logs" / step.stage / f"{step.fingerprint}.json"
    write_text(path, to_json(step))
    return path


ERROR = re.compile(r"(?:[\w.]*(?:Error|Exception|Interrupt)): ")


def end_of(log: Path) -> int:
    """Return the bytes that a log has, before more is said."""
    return log.stat().st_size if log.exists() else 0


def cause_in(log: Path, since: int = 0) -> str:
    """Return what a step failed of: the last error in its log, or the last line if it names none.

    Workers that share a step share its log, so what comes last may be another one's progress; what
    was said before byte `since` is of earlier attempts.
    """
    text = log.read_bytes()[since:] if log.exists() else b""
    lines = text.decode(errors="replace").strip().splitlines()
    said = [line for line in lines if ERROR.match(line)] or lines
    return said[-1].strip().removeprefix("Error: ") if said else "it ended without a word"
