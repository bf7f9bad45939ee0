"""Ctrl-C and SIGTERM before any work: one line, how to go on, and the shell's exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def heeds(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal by now."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("later", [0.0, 0.4])
def test_a_run_stopped_while_it_imports_says_so_in_one_line(
    number: signal.Signals, code: int, later: float, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "plan=true"],
        env=os.environ | {"ICONS_OUTPUT": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not heeds(process.pid, signal.SIGTERM):
        time.sleep(0.002)
    time.sleep(later)
    process.send_signal(number)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert len(errors.strip().splitlines()) == 1, errors
    assert "the same command" in errors
    assert not shown
