"""Run a command where a folder is a small or read-only file system of its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def may_mount() -> bool:
    """Whether this user may mount a folder that other processes do not see."""
    if not shutil.which("unshare"):
        return False
    asked = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return subprocess.run(asked, capture_output=True).returncode == 0


def run_mounted(
    folder: Path, options: str, arguments: list[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` where `folder` is an empty tmpfs with mount's `options`."""
    mount = shlex.join(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)])
    script = f"{mount} && {shlex.join([sys.executable, *arguments])}"
    command = ["unshare", "--mount", "sh", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
