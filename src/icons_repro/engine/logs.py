"""Where each step's log and description are."""

from __future__ import annotations

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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_json(step))
    return path


def last_words(log: Path, lines: int = 1) -> str:
    """Return the last lines that a log says, for a table."""
    try:
        text = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(line.strip() for line in text[-lines:])
