"""One live screen for everything that runs: running, waiting, done, failed, time left."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from icons_repro.engine.ledger import Ledger, State

log = logging.getLogger(__name__)
SHOWN = 12
"""Running steps that are listed by name."""


class Screen:
    """Shows a ledger while it is worked off; where nobody watches, one line for each step's end."""

    def __init__(self, ledger: Ledger, workers: int, console: Console | None = None) -> None:
        self.ledger, self.workers = ledger, workers
        self.console = console or Console(stderr=True)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)
        self._told: dict[str, State] = {}
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        self.refresh()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refresh()
        self._live.stop()

    def refresh(self) -> None:
        """Say what has changed, and draw anew."""
        for fingerprint, state in self.ledger.states.items():
            if self._told.get(fingerprint) != state:
                self._told[fingerprint] = state
                self._tell(fingerprint, state)
        if self.console.is_terminal:
            self._live.update(self.draw(), refresh=True)

    def _tell(self, fingerprint: str, state: State) -> None:
        step = self.ledger.needed[fingerprint]
        count = f"[{self.ledger.count(State.done)}/{len(self.ledger.needed)}]"
        if state is State.done:
            seconds = self.ledger.seconds.get(fingerprint, 0.0)
            self._say(f"{count} {step.name}: {seconds:.1f} s")
        elif state is State.failed:
            self._say(f"{count} {step.name} failed: {self.ledger.failures[-1].cause}")

    def _say(self, words: str) -> None:
        """Print above the live picture, or log where there is none."""
        if self.console.is_terminal:
            self.console.print(words, markup=False, highlight=False, soft_wrap=True)
        else:
            log.info("%s", words)

    def draw(self) -> Group:
        """Return the picture of this moment."""
        ledger = self.ledger
        table = Table.grid(padding=(0, 2))
        running = [fp for fp, state in ledger.states.items() if state is State.running]
        for fingerprint in running[:SHOWN]:
            seconds = time.monotonic() - ledger.started[fingerprint]
            table.add_row("●", Text(ledger.needed[fingerprint].name), clock(seconds))
        counts = {state: ledger.count(state) for state in State}
        parts = [f"{counts[s]} {s.value}" for s in State if counts[s] or s is State.done]
        left = ledger.seconds_left(self.workers)
        said = f" · about {clock(left)} left" if left is not None else ""
        line = Text(f"{' · '.join(parts)} · {clock(time.monotonic() - self._begun)}{said}")
        bar = Table.grid()
        bar.add_row(ProgressBar(max(len(ledger.needed), 1), counts[State.done], width=60))
        return Group(table, bar, line)


def clock(seconds: float) -> str:
    """Return seconds as 0:42, 12:03 or 3:10:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
