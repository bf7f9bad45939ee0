"""Start the program without paying its imports each time: a server imports them once, and forks.

What runs is `run.py` as a user starts it, in a process of its own: its arguments, folder,
environment, output and exit code. Only the seconds that Python takes to import torch and its
company are shared (`icons_repro.preload`, which starts no thread).
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = str(ROOT / "src")


def run_forked(
    arguments: list[str], cwd: Path, environment: Mapping[str, str], path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `run.py` with `arguments` in `cwd`, with `path` on Python's search path."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"argv": arguments, "cwd": str(cwd), "env": dict(environment), "out": folder}
        line = json.dumps({**wanted, "path": path})
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(line + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = ((Path(folder) / name).read_text(errors="replace") for name in ("out", "err"))
    return subprocess.CompletedProcess(arguments, code, out, err)


@cache
def _server() -> subprocess.Popen[str]:
    """Start the server of this test process; it ends when its standard input does."""
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), "serve"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def serve() -> None:
    """Fork a process for each line of standard input, and answer with its exit code."""
    import icons_repro.launcher
    import icons_repro.preload  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(wanted: Mapping[str, Any]) -> None:
    """Be the program that was asked for, and end as it ends."""
    code = 1
    try:
        os.chdir(wanted["cwd"])
        os.environ.clear()
        search = os.pathsep.join([wanted["path"], SOURCE])
        os.environ.update({**wanted["env"], "PYTHONPATH": search})
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(Path(wanted["out"]) / name, os.O_CREAT | os.O_WRONLY), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.path[:0] = [part for part in wanted["path"].split(os.pathsep) if part]
        sys.argv = [str(ROOT / "run.py"), *wanted["argv"]]
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
