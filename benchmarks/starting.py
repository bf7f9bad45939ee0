"""What it takes until a process can begin: a rank of a training, the server of `executor=local`.

    python benchmarks/starting.py [--json FILE] [--tiny]

Processor seconds until its imports are done and the garbage collector has looked once at what came
after, as it is and with the collector at work meanwhile, in turns: `icons_repro/core/imports.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from machine import machine

STARTED = {"rank": "icons_repro.training.worker", "local server": "icons_repro.preload"}
AT_WORK = "import gc; gc.disable = gc.freeze = lambda: None\n"
THEN = "\nimport time; new = [[i] for i in range(100_000)]; print(time.process_time())"
ROUNDS = 5


def seconds(code: str) -> float:
    """Return the processor seconds that a Python has taken when the code is run."""
    command = [sys.executable, "-c", code + THEN]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    arguments = parser.parse_args()
    where = machine()
    print(where)
    figures = {}
    for name, module in STARTED.items():
        rounds = [
            (seconds(f"import {module}"), seconds(f"{AT_WORK}import {module}"))
            for _ in range(1 if arguments.tiny else ROUNDS)
        ]
        ours, plain = map(statistics.median, zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b in rounds)
        figures[name] = {"seconds": ours, "with_collector": plain, "over_collector": ratio}
        print(f"{name}: {ours:.1f} s, {plain:.1f} s with the collector, {ratio:.2f} of it")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": where, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
