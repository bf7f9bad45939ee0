"""What a rig has started, found by its environment, so that a killed test run leaves nothing.

A job's processes outlive the daemons; the next run finds them by the SLURM_CONF they carry.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "icons-slurm-"
"""How the folders of all rigs begin, in /tmp."""


def sweep_leftovers() -> None:
    """Remove the rigs of test runs that were killed, and the jobs that still run in them."""
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):  # its run is just starting or cleaning up
            pid, start = (folder / "owner").read_text().split()
            if born(int(pid)) != start:
                remove(folder)


def remove(folder: Path) -> None:
    """Kill whatever has this cluster's SLURM_CONF in its environment, then delete its files."""
    for _ in range(20):
        pids = list(_members(folder))
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _members(folder: Path) -> Iterator[int]:
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            ours = mark in (entry / "environ").read_bytes().split(b"\0")
            if ours and int(entry.name) != os.getpid():
                yield int(entry.name)


def born(pid: int) -> str:
    """When a process started, in ticks since boot; empty if there is none. Pids are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
