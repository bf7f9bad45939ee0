"""What a benchmark ran on, in a line for its table."""

from __future__ import annotations

import os
from pathlib import Path

from icons_repro.core.machine import cores


def machine() -> str:
    """Name the processor, how many cores there are, and how busy they are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else "unknown processor"
    return f"{name}, {cores()} cores, load {os.getloadavg()[0]:.1f} at the start"
