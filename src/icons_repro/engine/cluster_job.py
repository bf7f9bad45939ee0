"""What a job of the cluster runs: steps in order, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from submitit.helpers import DelayedSubmission

from icons_repro.core.stop import STOPPED
from icons_repro.engine.logs import cause_in, end_of
from icons_repro.step import LEFT_TO_OTHERS

UNTIL_KILLED = 3600
"""Seconds to wait for SLURM's end after a TERM: a job that ended by itself is not requeued."""


class StepFailedError(RuntimeError):
    """A step failed; the job must be seen to fail."""


class ChainJob:
    """A picklable function for submitit: make the steps of these files, one after the other.

    At a time limit SLURM signals the step's own process, which saves; submitit then calls
    `checkpoint`, which waits for it and has the job queued again.
    """

    def __init__(
        self, files: list[str], logs: list[str], cache: str, chunks: int, retries: int
    ) -> None:
        self.files, self.logs, self.cache = files, logs, cache
        self.chunks, self.retries = chunks, retries
        self._child: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_child": None}

    def __call__(self) -> None:
        """Make every step; raise `StepFailedError` at the first that fails."""
        for file, log in zip(self.files, self.logs, strict=True):
            self._make(file, Path(log), [])

    def _make(self, file: str, log: Path, options: list[str]) -> None:
        since = end_of(log)
        for _ in range(1 + self.retries):
            code = self._run(file, log, options)
            if code in (0, LEFT_TO_OTHERS):
                return
            if code == STOPPED:
                time.sleep(UNTIL_KILLED)
            if code > 0:
                break  # it failed; only what was killed is tried again
        raise StepFailedError(f"{file}: {cause_in(log, since)} (exit code {code})")

    def _run(self, file: str, log: Path, options: list[str]) -> int:
        command = [sys.executable, "-m", "icons_repro.step", file, "--cache", self.cache]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*command, "--chunks", str(self.chunks), *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1")},
            )
            return self._child.wait()

    def checkpoint(self, *args: object) -> DelayedSubmission:
        """Wait until the step's process has saved, and ask for the same work again."""
        if self._child is not None:
            # not Popen.wait: this interrupts one, which holds Popen's lock
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(self, *args)


class WorkerJob(ChainJob):
    """One of several workers on one step: a task of an array."""

    def __call__(self, number: int = 0) -> None:
        """Fill parts until none is left; those that others hold are left to them."""
        self._make(self.files[0], Path(self.logs[0]), ["--leave"])


class ReportJob:
    """Runs the command of the sweep again, to report on what is there."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        """Raise if the report says that something failed."""
        subprocess.run(self.command, check=True)
