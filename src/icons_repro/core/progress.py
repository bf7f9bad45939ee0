"""Bars on the terminal: there while something takes time, gone when it has ended.

All are tqdm's, so that those of nested work stand below each other. Where nobody watches (a log
file, a pipe) there are none.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

T = TypeVar("T")
DELAY = 1.0
"""Seconds that work may take without a bar."""
TICK = 0.5
COUNTS = "{bar:12} {n_fmt}/{total_fmt} {desc}"


def bar(name: str, total: int | None = None, unit: str = "it", scaled: bool = False) -> Any:
    """Return a bar to be used as a context manager; `update(n)` moves it.

    `scaled` writes large totals as 1.2G, for bytes.
    """
    return tqdm(
        desc=name, total=total, unit=unit, unit_scale=scaled, leave=False, delay=DELAY,
        disable=None, dynamic_ncols=True, file=sys.stderr,
    )  # fmt: skip


def watched(items: Iterable[T], name: str, total: int | None = None, unit: str = "it") -> Any:
    """Yield the items, with a bar that counts them."""
    return tqdm(
        items, desc=name, total=total, unit=unit, leave=False, delay=DELAY, disable=None,
        dynamic_ncols=True, file=sys.stderr,
    )  # fmt: skip


class LiveCount:
    """A line that a thread keeps true while steps are done one by one; other bars stand below it.

    Log lines go above it.
    """

    def __init__(self, total: int, done: Callable[[], int], words: Callable[[], str]) -> None:
        """`done` and `words` are asked twice a second."""
        self._total, self._done, self._words = total, done, words
        self._ended = threading.Event()
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._stack.enter_context(logging_redirect_tqdm())
            drawn = tqdm(total=self._total, bar_format=COUNTS, leave=False, dynamic_ncols=True)
            line = self._stack.enter_context(drawn)
            self._thread = threading.Thread(target=self._keep, args=(line,), daemon=True)
            self._thread.start()
        return self

    def _keep(self, line: Any) -> None:
        while not self._ended.wait(TICK):
            line.n = self._done()
            line.set_description_str(self._words())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._stack.close()


def live_count(ledger: Any) -> LiveCount:
    """Return the line of an engine's ledger: what is being made, how long, how much is left."""

    def words() -> str:
        running = [fp for fp, state in list(ledger.states.items()) if state == "running"]
        now, left = time.monotonic(), ledger.seconds_left(1)
        said = [f"{ledger.needed[fp].name} {clock(now - ledger.started[fp])}" for fp in running]
        return " · ".join([*said, *([f"about {clock(left)} left"] if left is not None else [])])

    def done() -> int:
        return sum(state == "done" for state in list(ledger.states.values()))

    return LiveCount(len(ledger.needed), done, words)


def clock(seconds: float) -> str:
    """Return seconds as 0:42, 12:03 or 3:10:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
