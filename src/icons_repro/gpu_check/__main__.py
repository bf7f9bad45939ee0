"""Ask one machine every question, print a line for each, write them as JSON.

    python -m icons_repro.gpu_check [--device cuda|cpu] [--size tiny|1b|7b] --json FILE

A tick is proven here, a cross is not, a dot is a figure. The exit code is 1 if any correctness line
is a cross.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from icons_repro.core.commands import parser_of
from icons_repro.core.files import write_json
from icons_repro.core.provenance import provenance
from icons_repro.core.screen import quiet_third_parties
from icons_repro.gpu_check import correctness, speed
from icons_repro.gpu_check.lines import Line, ask
from icons_repro.gpu_check.model import Rig
from icons_repro.gpu_check.shapes import SHAPES, usual_size
from icons_repro.gradients.memory import device_name

TOTAL = 600.0
"""Seconds for all lines; what does not fit is a cross that says so."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell has it."""


@dataclass
class Record:
    """What has been answered so far, kept on disk after every line."""

    path: Path
    about: dict[str, Any]
    started: float = field(default_factory=time.perf_counter)
    lines: list[Line] = field(default_factory=list)

    def add(self, line: Line) -> None:
        """Print a line and write everything down."""
        if not self.lines or self.lines[-1].group != line.group:
            say(f"\n{line.group}")
        self.lines.append(line)
        say(str(line))
        seconds = round(time.perf_counter() - self.started, 1)
        lines = [asdict(line) for line in self.lines]
        write_json(self.path, {**self.about, "seconds": seconds, "lines": lines})

    @property
    def failed(self) -> bool:
        """Whether a correctness line failed."""
        return any(x.status == "failed" for x in self.lines if x.group == "correctness")

    def hung(self, line: Line) -> None:
        """Report the line that cannot be stopped, and end the process with it."""
        self.add(line)
        say("\nA line hangs, so nothing after it was asked.")
        os._exit(1)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def about(size: str, device: torch.device) -> dict[str, Any]:
    """Return what the figures are of."""
    found: dict[str, Any] = {"device": device_name(device), "size": size}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found |= {"capability": f"{major}.{minor}", "cuda": torch.version.cuda}
    return found | provenance()


def main(arguments: Sequence[str]) -> int:
    """Ask everything and return the exit code."""
    parser = parser_of("gpu_check", __doc__)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=here)
    parser.add_argument("--size", choices=tuple(SHAPES), help="default: by the device's memory")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --device cpu asks the CPU what it can answer")
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    size = options.size or usual_size(device)
    quiet()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = Record(options.json, about(size, device))
    say(f"{record.about['device']}, size {size}, commit {record.about['commit']}")
    rig = Rig(size, device)
    try:
        for check in [*correctness.checks(), *speed.checks(rig.shape)]:
            left = TOTAL - (time.perf_counter() - record.started)
            record.add(ask(check, rig, left, record.hung))
    except KeyboardInterrupt:
        say("\nstopped; the lines so far are kept")
        return INTERRUPTED
    finally:
        say(f"\n{options.json}")
    return int(record.failed)


def quiet() -> None:
    """Leave the screen to the lines: a check says in its note what there is to say."""
    warnings.simplefilter("ignore")
    quiet_third_parties()
    logging.getLogger("icons_repro").setLevel(logging.ERROR)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # no tick in this font


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
