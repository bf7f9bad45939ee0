"""Steps of no meaning, for tests of the engine; importable in any process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.step import Counts, SharedStep, Step, placement
from icons_repro.core.work import Work


def note(work: Work, text: str) -> None:
    """Append to a file beside the cache, whoever runs."""
    with (work.cache.root / "calls").open("a") as file:
        file.write(f"{text}\n")


def calls(root: Path) -> list[str]:
    path = root / "calls"
    return path.read_text().split() if path.exists() else []


@dataclass(frozen=True)
class Settings:
    depth: int = 1
    threads: int = placement(4)
    inner: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Number(Step):
    stage = "number"
    group = "prepare"
    light = True

    value: int
    reads: tuple[Step, ...] = ()
    more: Mapping[str, Step] = field(default_factory=dict)
    settings: Settings = Settings()
    fails: str = placement("")
    seconds: float = placement(0.0)

    @property
    def label(self) -> str:
        return str(self.value)

    def run(self, work: Work) -> Counts:
        note(work, f"number-{self.value}")
        time.sleep(self.seconds)
        if self.fails == "user":
            raise UserError(f"number {self.value} is bad; choose another")
        if self.fails == "bug":
            raise ZeroDivisionError("by zero")
        if self.fails == "disk":
            Path("/dev/full").write_text("no room")  # as any write to a disk that is full
        if self.fails == "memory":
            bytearray(2**62)
        if self.fails == "killed-once" and calls(work.cache.root).count(f"number-{self.value}") < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        total = sum(int((work.path(s) / "number").read_text()) for s in self.inputs.values())
        (work.out / "number").write_text(str(self.value + total))
        return {"rows": 1}


@dataclass(frozen=True, eq=False, kw_only=True)
class Resumable(Step):
    stage = "resumable"
    group = "prepare"
    light = True
    resumable = True

    value: int = 0

    def run(self, work: Work) -> None:
        left = (work.out / "half").exists()
        note(work, f"left-{left}")
        (work.out / "half").write_text("half")
        if not left:
            raise UserError("stopped half way")


@dataclass(frozen=True, eq=False, kw_only=True)
class Counting(Step):
    """Counts on from where it was; slowly at first, so that something can happen to it."""

    stage = "counting"
    group = "prepare"
    light = True
    resumable = True

    upto: int

    def run(self, work: Work) -> Counts:
        file = work.out / "count"
        seconds = 0.02 if file.exists() else 1.0
        while (count := int(file.read_text()) if file.exists() else 0) < self.upto:
            note(work, f"count-{count}")
            time.sleep(seconds)
            file.write_text(str(count + 1))
        return {"rows": self.upto}


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared(SharedStep):
    stage = "shared"
    group = "extract"
    light = True
    weight = 5.0

    rows: int = 12
    seconds: float = placement(0.0)
    fails: str = placement("")

    def parts(self, work: Work) -> list[str]:
        note(work, "parts")
        (work.out / "rows").mkdir(exist_ok=True)
        return [f"{i}" for i in range(work.chunks)]

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        for part in parts:
            note(work, f"part-{part}")
            time.sleep(self.seconds)
            if self.fails == "killed-once" and calls(work.cache.root).count(f"part-{part}") == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fails == "user" and part == "1":
                raise UserError("part 1 is bad")
            chunks = len(list((work.out / ".parts").glob("*.json")) and self._names(work))
            for row in range(int(part), self.rows, chunks):
                (work.out / "rows" / str(row)).write_text(str(row * row))

    def _names(self, work: Work) -> list[str]:
        import json

        names: list[str] = json.loads((work.out / ".parts" / "parts.json").read_text())
        return names

    def finish(self, work: Work) -> Counts:
        note(work, "finish")
        return {"rows": len(list((work.out / "rows").iterdir()))}


@dataclass(frozen=True, eq=False, kw_only=True)
class Heavy(Number):
    """A step of no work that wants the heavy packages."""

    stage = "heavy"
    light = False
