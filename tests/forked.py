"""Start the program without paying its imports each time: a server imports them once, and forks.

What runs is `run.py` (or another script) as a user starts it, in a process of its own: its
arguments, folder, environment, session, signals, output and exit code. Only the seconds that Python
takes to import torch, W&B and their company are shared; no import of them starts a thread.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = str(ROOT / "src")
PROGRAM = ROOT / "run.py"
WARM = ("icons_repro.preload", "wandb", "wandb.sdk.launch")
"""What programs import that are not light; `wandb.init` imports the last of them."""


@dataclass
class Forked:
    """A process that runs; while it does, no other can be started."""

    pid: int
    folder: Path
    code: int | None = None

    def runs(self) -> bool:
        """Whether it has not ended yet; the server takes note of its end at once."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def ended(self) -> int:
        """Wait for its end, and return its exit code: that of a signal is negative."""
        if self.code is None:
            self.code = int(_answer())
        return self.code

    def said(self, where: str = "err") -> str:
        """Return what it has written so far, to `out` or `err`."""
        return (self.folder / where).read_text(errors="replace")


@contextmanager
def forked(
    arguments: list[str],
    cwd: Path,
    environment: Mapping[str, str],
    path: str = "",
    script: Path = PROGRAM,
    light: bool = False,
) -> Iterator[Forked]:
    """Run a script in a session of its own; a test that does not see its end kills it.

    `path` is put on Python's search path; `light` says that it has no use for torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"argv": [str(script), *arguments], "cwd": str(cwd), "env": dict(environment)}
        wanted |= {"out": folder, "path": path, "light": light}
        for name in ("out", "err"):
            (Path(folder) / name).touch()
        server = _server()
        assert server.stdin
        server.stdin.write(json.dumps(wanted) + "\n")
        server.stdin.flush()
        process = Forked(int(_answer()), Path(folder))
        try:
            yield process
        finally:
            if process.code is None:
                with suppress(ProcessLookupError):  # it has ended, and nobody asked how
                    os.killpg(process.pid, signal.SIGKILL)
                process.ended()


def run_forked(
    arguments: list[str],
    cwd: Path,
    environment: Mapping[str, str],
    path: str = "",
    script: Path = PROGRAM,
    light: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a script with `arguments` in `cwd` to its end; see `forked`."""
    with forked(arguments, cwd, environment, path, script, light) as process:
        code = process.ended()
        return subprocess.CompletedProcess(
            arguments, code, process.said("out"), process.said("err")
        )


def _answer() -> str:
    """Return the next line that the server answers."""
    server = _server()
    assert server.stdout
    return server.stdout.readline()


@cache
def _server() -> subprocess.Popen[str]:
    """Start the server of this test process; it ends when its standard input does."""
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), "serve"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def serve() -> None:
    """Fork a process for each line of standard input, and answer with its number and exit code."""
    import icons_repro.launcher  # noqa: F401

    for line in sys.stdin:
        wanted = json.loads(line)
        if not wanted["light"]:
            for module in WARM:
                importlib.import_module(module)
        child = os.fork()
        if child == 0:
            _become(wanted)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(wanted: Mapping[str, Any]) -> None:
    """Be the program that was asked for, and end as it ends."""
    code = 1
    try:
        os.setsid()
        os.chdir(wanted["cwd"])
        os.environ.clear()
        search = os.pathsep.join([wanted["path"], SOURCE])
        os.environ.update({**wanted["env"], "PYTHONPATH": search})
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(Path(wanted["out"]) / name, os.O_WRONLY), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.path[:0] = [part for part in wanted["path"].split(os.pathsep) if part]
        sys.argv = wanted["argv"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # what Python itself would print before it ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
