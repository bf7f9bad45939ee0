"""One line of the check: a question asked under guard, within a time budget."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from icons_repro.core.faults import is_out_of_memory
from icons_repro.gpu_check.model import Rig

Group = Literal["correctness", "speed"]
Status = Literal["passed", "failed", "measured", "skipped"]
MARKS: dict[Status, str] = {"passed": "✓", "failed": "✗", "measured": "·", "skipped": "-"}
GRACE = 60.0
"""Seconds past its budget after which a line counts as hung: a kernel cannot be interrupted."""


@dataclass(frozen=True)
class Found:
    """What a check found."""

    value: float | None
    unit: str = ""
    passed: bool | None = None
    """None for a figure that nothing is asked of."""
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A question for a machine."""

    group: Group
    name: str
    run: Callable[[Rig], Found]
    seconds: float = 90.0
    """Its time budget."""


@dataclass(frozen=True)
class Line:
    """The answer, as it is printed and written down."""

    group: Group
    name: str
    status: Status
    value: float | None
    unit: str
    note: str
    seconds: float

    def __str__(self) -> str:
        figure = "" if self.value is None else f"{figures(self.value)} {self.unit}".strip()
        text = f" {MARKS[self.status]} {self.name:<58} {figure:>26}  {self.seconds:5.1f} s"
        return f"{text}  {self.note}".rstrip()


class NotHereError(Exception):
    """The question means nothing on this device; says why."""


class TooLongError(Exception):
    """The line's time is up."""


def figures(value: float) -> str:
    """Return a number with three figures, or whole thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ask(check: Check, rig: Rig, left: float, on_hang: Callable[[Line], None]) -> Line:
    """Ask within the check's budget and the `left` seconds of all; whatever goes wrong is a line.

    `on_hang` is called from another thread with the line to report if the check neither ends nor
    can be interrupted; it should end the process.
    """
    start = time.perf_counter()
    budget = min(check.seconds, left)

    def line(status: Status, found: Found) -> Line:
        seconds = round(time.perf_counter() - start, 2)
        return Line(check.group, check.name, status, found.value, found.unit, found.note, seconds)

    def failed(why: str) -> Line:
        return line("failed", Found(None, note=why))

    if budget <= 0:
        return failed("no time was left for it")
    watch = threading.Timer(budget + GRACE, lambda: on_hang(failed("hung: it cannot be stopped")))
    watch.daemon = True
    watch.start()
    try:
        with within(budget):
            found = check.run(rig)
        answer = line(_status(found), found)
    except NotHereError as reason:
        answer = line("skipped", Found(None, note=str(reason)))
    except Exception as error:  # whatever it is, it is this line's and the rest goes on
        answer = failed(one_line(error))
    finally:
        watch.cancel()
    if answer.status == "failed":
        rig.drop()  # whatever the line left on the model
    rig.tidy()
    return answer


def _status(found: Found) -> Status:
    if found.passed is None:
        return "measured"
    return "passed" if found.passed else "failed"


def one_line(error: BaseException) -> str:
    """Return an error in one line of at most 200 characters."""
    if is_out_of_memory(error):
        return "does not fit in memory"
    text = " ".join(str(error).split()) or "no reason given"
    return text if isinstance(error, TooLongError) else f"{type(error).__name__}: {text}"[:200]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TooLongError` in this block when the time is up, as soon as Python has the word."""

    def up(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"took longer than its {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
