"""Make one step: alone, or its parts together with other workers."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from icons_repro.core.cache import Cache
from icons_repro.core.claims import Owner, acquire, claimed, read_owner, release
from icons_repro.core.device import give_memory_back
from icons_repro.core.files import read_json, write_json
from icons_repro.core.integrity import PARTS
from icons_repro.core.step import SharedStep, Step
from icons_repro.core.stop import stop_if_asked
from icons_repro.core.work import OnMetrics, Work

log = logging.getLogger(__name__)
POLL = 0.5
"""Seconds between two looks at parts that other workers hold."""


@dataclass(frozen=True)
class Options:
    """How a step is made in this process."""

    chunks: int = 1
    """Into how many parts a shared step is cut, if nobody has cut it yet."""
    stay: bool = True
    """Wait for parts that others hold; False leaves them to the others."""
    on_metrics: OnMetrics | None = None


def build(step: Step, cache: Cache, options: Options | None = None) -> bool:
    """Make `step`, whose inputs are finished; True once it is there, whoever made it.

    False, with `stay=False` alone, where the rest of a shared step is in other workers' hands.
    Raises `Stopped` instead of beginning, if the process has been told to stop.
    """
    options = options or Options()
    if cache.is_ready(step):
        return True
    stop_if_asked()  # a signal may have come when the step before had nothing left to save
    log.info("%s ...", step.name)
    give_memory_back()  # what the step before this one took, whether or not it failed
    step.load()
    if isinstance(step, SharedStep):
        return _Shared(step, cache, options).make()
    _alone(step, cache, options)
    return True


def obtain(step: Step, cache: Cache, options: Options | None = None) -> Path:
    """Return the step's folder, making it, and whatever it reads, where it is not there."""
    if not cache.is_ready(step):
        for upstream in step.inputs.values():
            obtain(upstream, cache, options)
        build(step, cache, options)
    return cache.path(step)


def _alone(step: Step, cache: Cache, options: Options) -> None:
    ready = partial(cache.is_ready, step)
    with claimed(cache.claim(step), cache.owner, _Waiting(step), ready) as mine:
        if not mine or ready():
            return
        out = cache.attempt(step)
        started = time.perf_counter()
        counts = step.run(Work(out, cache, options.chunks, options.on_metrics))
        seconds = time.perf_counter() - started
        cache.publish(step, out, counts, seconds)
        log.info("%s: %.1f s", step.name, seconds)


@dataclass(frozen=True)
class _Waiting:
    """Says once whom this process waits for."""

    step: Step

    def __call__(self, holder: Owner) -> None:
        log.info("%s: waiting for %s, which is computing it", self.step.name, holder)


class _Shared:
    """One worker among those that fill a shared step."""

    def __init__(self, step: SharedStep, cache: Cache, options: Options) -> None:
        self.step, self.cache, self.options = step, cache, options
        self.owner = cache.owner
        self.out = cache.shared_attempt(step)
        self.work = Work(self.out, cache, options.chunks, options.on_metrics)
        self.notes = self.work.notes

    def make(self) -> bool:
        """Fill what can be had, and close the whole if nothing is left."""
        told: set[str] = set()
        while not self._ready():
            names = self._names()
            self.step.fill(self.work, self._claimed(names))
            left = [name for name in names if not self._done(name)]
            held = [name for name in left if self._is_held(name)]
            if not left:
                self._close()
            elif held != left:
                continue  # done or given up meanwhile
            elif not self.options.stay:
                return False
            else:
                self._tell(held, told)
                time.sleep(POLL)
        shutil.rmtree(self.out, ignore_errors=True)  # a claim may have made it anew
        return True

    def _ready(self) -> bool:
        return self.cache.is_ready(self.step)

    def _names(self) -> list[str]:
        """Return the parts, named once by the first worker; the folder is reserved by then."""
        listed = self.notes / "parts.json"
        waiting = _Waiting(self.step)
        with claimed(self.notes / "parts.claim", self.owner, waiting, listed.is_file) as mine:
            names: list[str] | None = read_json(listed)
            if mine and names is None and not self._ready():
                names = self.step.parts(self.work)
                write_json(listed, names)
        return names or []

    def _done(self, name: str) -> bool:
        return (self.notes / f"{name}.done").is_file() or self._ready()

    def _is_held(self, name: str) -> bool:
        """Ask by claiming it: a network file system may show yesterday's absence, never here."""
        claim = self.notes / f"{name}.claim"
        if acquire(claim, self.owner) is not None:
            return True
        release(claim, self.owner)
        return False

    def _claimed(self, names: list[str]) -> Iterator[str]:
        """Yield the parts that nobody has done or is doing; each is done when control returns."""
        for name in names:
            claim = self.notes / f"{name}.claim"
            if self._done(name) or acquire(claim, self.owner) is not None:
                continue
            try:
                if self._done(name):
                    continue
                started = time.perf_counter()
                yield name
                seconds = time.perf_counter() - started
                write_json(self.notes / f"{name}.done", {"seconds": seconds, "by": str(self.owner)})
            finally:
                release(claim, self.owner)

    def _close(self) -> None:
        claim = self.notes / "close.claim"
        with claimed(claim, self.owner, _Waiting(self.step), self._ready) as mine:
            if not mine or self._ready():
                return
            started = time.perf_counter()
            counts = self.step.finish(self.work)
            notes = [read_json(path) or {} for path in self.notes.glob("*.done")]
            seconds = sum(note.get("seconds", 0.0) for note in notes)
            seconds += time.perf_counter() - started
            if self.cache.publish(self.step, self.out, counts, seconds):
                shutil.rmtree(self.cache.path(self.step) / PARTS, ignore_errors=True)
            log.info("%s: %.1f s of work", self.step.name, seconds)

    def _tell(self, left: list[str], told: set[str]) -> None:
        for name in left:
            holder = read_owner(self.notes / f"{name}.claim")
            if holder is not None and holder.id not in told:
                told.add(holder.id)
                _Waiting(self.step)(holder)
