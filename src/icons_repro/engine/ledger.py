"""The union of all graphs of a sweep: what is to be done, what is done, and what cannot be."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from icons_repro.core.cache import Artifact, Cache
from icons_repro.core.errors import UserError
from icons_repro.core.step import Step


class JobsLeftError(UserError):
    """The work is in a cluster's queue, and this process does not wait for it."""


class State(StrEnum):
    """Where a step stands."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"
    blocked = "blocked"
    """It reads what failed."""


@dataclass(frozen=True)
class Failure:
    """A step that failed, why, and where it says more."""

    step: Step
    cause: str
    log: Path | None = None


@dataclass
class Ledger:
    """Every step that the goals need, each once, and its state. The only one who writes states."""

    goals: Sequence[Step]
    cache: Cache
    needed: dict[str, Step] = field(default_factory=dict)
    """Steps to compute, by fingerprint, inputs first."""
    states: dict[str, State] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    on_finish: Callable[[], None] = field(default=lambda: None)
    """Called after each step that is finished."""

    def __post_init__(self) -> None:
        """Walk from the goals down to what is finished already."""
        for goal in self.goals:
            self._visit(goal)
        self.states = dict.fromkeys(self.needed, State.waiting)
        self.readers: dict[str, list[Step]] = defaultdict(list)
        for step in self.needed.values():
            for read in step.inputs.values():
                self.readers[read.fingerprint].append(step)
        self._ahead: dict[str, float] = {}

    def _visit(self, step: Step) -> None:
        if step.fingerprint in self.needed or self.cache.is_ready(step):
            return
        for read in step.inputs.values():
            self._visit(read)
        self.needed.setdefault(step.fingerprint, step)

    def state(self, step: Step) -> State:
        """Return a step's state; what was not needed is done."""
        return self.states.get(step.fingerprint, State.done)

    def ready(self) -> list[Step]:
        """Return waiting steps whose inputs are done, most work behind them first."""
        found = [
            step
            for step in self.needed.values()
            if self.state(step) is State.waiting
            and all(self.state(read) is State.done for read in step.inputs.values())
        ]
        return sorted(found, key=lambda step: -self.ahead(step))

    def open(self) -> list[Step]:
        """Return the steps that are still to be done, and can be."""
        return [s for s in self.needed.values() if self.state(s) in (State.waiting, State.running)]

    def ahead(self, step: Step) -> float:
        """Return the effort of the longest chain of steps that begins with this one."""
        if step.fingerprint not in self._ahead:
            later = [self.ahead(reader) for reader in self.readers[step.fingerprint]]
            self._ahead[step.fingerprint] = step.effort + max(later, default=0.0)
        return self._ahead[step.fingerprint]

    def start(self, step: Step) -> None:
        """Note that somebody works on the step."""
        self.states[step.fingerprint] = State.running
        self.started.setdefault(step.fingerprint, time.monotonic())

    def finish(self, step: Step) -> None:
        """Note that the step is there."""
        self.states[step.fingerprint] = State.done
        now = time.monotonic()
        self.seconds[step.fingerprint] = now - self.started.get(step.fingerprint, now)
        self.on_finish()

    def fail(self, step: Step, cause: str, log: Path | None = None) -> None:
        """Note that the step failed; what reads it cannot be done."""
        self.states[step.fingerprint] = State.failed
        self.failures.append(Failure(step, cause, log))
        self._block(step)

    def _block(self, step: Step) -> None:
        for reader in self.readers[step.fingerprint]:
            if self.states[reader.fingerprint] in (State.waiting, State.running):
                self.states[reader.fingerprint] = State.blocked
                self._block(reader)

    def count(self, state: State) -> int:
        """Return how many of the needed steps are in a state."""
        return sum(found is state for found in self.states.values())

    def seconds_left(self, workers: int) -> float | None:
        """Estimate the time left from the effort done so far; None before anything is known."""
        done = [fp for fp in self.seconds if fp in self.needed]
        effort = sum(self.needed[fp].effort for fp in done)
        if not effort:
            return None
        pace = sum(self.seconds[fp] for fp in done) / effort
        left = self.open()
        longest = max((self.ahead(step) for step in left), default=0.0)
        return pace * max(longest, sum(step.effort for step in left) / workers)

    def artifact(self, step: Step) -> Artifact:
        """Return a finished step's artifact; cached if this ledger did not have to make it."""
        return self.cache.artifact(step, step.fingerprint not in self.needed)
