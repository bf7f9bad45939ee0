"""Several processes of this machine: each step in a fresh one, which gives its memory back.

Fresh does not mean cold. A server process imports the heavy packages once and is forked for each
step (multiprocessing's forkserver), before it has started a thread or touched a GPU. Steps that
need none of these packages start from a bare interpreter.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from icons_repro.core.build import Options
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.files import read_json
from icons_repro.core.machine import cores
from icons_repro.core.step import SharedStep, Step
from icons_repro.core.step_json import from_json
from icons_repro.core.stop import STOPPED, born_deaf
from icons_repro.engine.ledger import Ledger, State
from icons_repro.engine.logs import cause_in, describe, end_of, log_of
from icons_repro.engine.resources import Resources, Table, check_gpus, local_gpus, of_step
from icons_repro.engine.screen import Screen
from icons_repro.step import LEFT_TO_OTHERS, make

log = logging.getLogger(__name__)
TICK = 0.25
"""Seconds between two looks at the screen and the processes."""
GRACE = 30.0
"""Seconds that processes have to save their work when the run is stopped."""


@dataclass
class Task:
    """One process and what it works on."""

    step: Step
    process: BaseProcess
    gpus: list[str]
    since: int
    """Where its words begin in the log."""


@dataclass
class LocalExecutor:
    """Runs up to `workers` steps at once, and several workers on one step that can be shared."""

    table: Table
    workers: int
    preload: tuple[str, ...] = ()
    """Modules that the server imports once for all."""
    gpus: list[str] = field(default_factory=local_gpus)

    def check(self, ledger: Ledger) -> None:
        """Raise `ConfigError` if a step asks for more than this machine has."""
        check_gpus(self.table, ledger.needed.values(), len(self.gpus))
        for step in ledger.needed.values():
            if (nodes := self._wants(step).nodes) > 1:
                raise ConfigError(
                    f"resources.{step.group}.nodes={nodes}: executor=local has one node; take "
                    "executor=slurm."
                )

    def run(self, ledger: Ledger) -> None:
        """Compute what is ready until nothing is; a killed process is tried again."""
        free, tries = list(self.gpus), dict[str, int]()
        with self._server(), Screen(ledger, self.workers) as screen:
            running: list[Task] = []
            try:
                while True:
                    self._start(ledger, running, free, tries)
                    if not running:
                        return
                    multiprocessing.connection.wait([t.process.sentinel for t in running], TICK)
                    for task in [t for t in running if not t.process.is_alive()]:
                        running.remove(task)
                        free += self._reap(task, ledger, running, tries)
                    screen.refresh()
            finally:
                _stop(running)

    @contextmanager
    def _server(self) -> Iterator[None]:
        """Share the cores out, and let the server begin its imports."""
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // self.workers)))
        context = multiprocessing.get_context("forkserver")
        # __main__ too, or every process would import the user's script anew
        context.set_forkserver_preload(["__main__", *self.preload])
        with born_deaf():
            multiprocessing.forkserver.ensure_running()
        try:
            yield
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]

    def _start(
        self, ledger: Ledger, running: list[Task], free: list[str], tries: dict[str, int]
    ) -> None:
        """Give every idle worker something: a step that is ready, else a hand at a shared one.

        What waits for more GPUs than are free is overtaken only by work that wants none.
        """
        reserved = False
        for step in [*ledger.ready(), *self._shareable(ledger, running)]:
            wants = self._wants(step).gpus or 0
            if len(running) >= self.workers:
                return
            if wants > len(free):
                reserved = True
            elif not (wants and reserved):
                mine = [free.pop(0) for _ in range(wants)]
                ledger.start(step)
                tries.setdefault(step.fingerprint, 1)
                running.append(self._spawn(step, ledger, mine))

    def _shareable(self, ledger: Ledger, running: list[Task]) -> list[Step]:
        """Return running steps that one more worker could help with."""
        helped = {s.fingerprint: s for s in ledger.open() if isinstance(s, SharedStep)}
        counts = {fp: sum(t.step.fingerprint == fp for t in running) for fp in helped}
        return [
            step
            for fp, step in helped.items()
            if 0 < counts[fp] < self._chunks(step) and not _all_claimed(ledger.cache, step)
        ]

    def _wants(self, step: Step) -> Resources:
        return of_step(self.table, step)

    def _chunks(self, step: Step) -> int:
        return max(self._wants(step).chunks, getattr(step, "natural_parts", 1))

    def _spawn(self, step: Step, ledger: Ledger, gpus: list[str], stay: bool = False) -> Task:
        path = log_of(ledger.cache, step)
        description, since = describe(ledger.cache, step), end_of(path)
        context: Any = multiprocessing.get_context("spawn" if step.light else "forkserver")
        process: BaseProcess = context.Process(
            target=run_here,
            args=(description, ledger.cache.root, self._wants(step).chunks, stay, path, gpus),
            name=step.name,
        )
        with born_deaf():
            process.start()
        return Task(step, process, gpus, since)

    def _reap(
        self, task: Task, ledger: Ledger, running: list[Task], tries: dict[str, int]
    ) -> list[str]:
        """Take in how a process ended; return the GPUs that it leaves."""
        step, code = task.step, task.process.exitcode or 0
        fp, path = step.fingerprint, log_of(ledger.cache, step)
        if ledger.cache.is_ready(step):
            if ledger.state(step) is State.running:
                ledger.finish(step)
        elif code in (0, LEFT_TO_OTHERS):
            if not any(t.step.fingerprint == fp for t in running):
                # the rest is in the hands of another engine's workers: one stays to see it done
                running.append(self._spawn(step, ledger, task.gpus, stay=True))
                return []
        elif (code < 0 or code == STOPPED) and tries[fp] <= self._wants(step).retries:
            tries[fp] += 1
            log.info("%s: %s; it is tried again", step.name, _how(code))
            ledger.states[fp] = State.waiting
        elif ledger.state(step) is not State.failed:
            ledger.fail(step, _how(code) if code < 0 else cause_in(path, task.since), path)
        return task.gpus


def _all_claimed(cache: Cache, step: Step) -> bool:
    """Whether every part of a shared step is done or in somebody's hands."""
    notes = cache.path(step).with_suffix(".shared.part") / ".parts"
    names = read_json(notes / "parts.json")
    if not names:
        return True  # its parts have no names yet
    return all((notes / f"{n}.done").exists() or (notes / f"{n}.claim").exists() for n in names)


def _how(code: int) -> str:
    if code < 0:
        return f"its process was killed ({signal.Signals(-code).name})"
    return "its process was told to stop" if code == STOPPED else f"exit code {code}"


def _stop(running: list[Task]) -> None:
    """Tell processes to save and end; those that do not in time are killed."""
    for task in running:
        task.process.terminate()
    for task in running:
        task.process.join(GRACE)
        if task.process.is_alive():
            task.process.kill()


def run_here(step: Path, cache: Path, chunks: int, stay: bool, path: Path, gpus: list[str]) -> None:
    """Be the process of one step: say everything to the log, see the given GPUs alone."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the engine, which tells us
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=file, force=True)
        code = make(from_json(step.read_text()), Cache(cache), Options(chunks, stay))
        file.flush()
    sys.exit(code)
