"""Seconds and peak memory of the main job, stage by stage, from an empty cache.

    python benchmarks/stages.py [--json FILE] [--rows N] [KEY=VALUE ...]

Runs `run.py experiment=icons_20pct` (ICONS, random and full data) in a temporary folder, then the
same command again, where everything is cached.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]


def run(output: Path, overrides: list[str]) -> tuple[float, dict[str, Any]]:
    """Run the main job; return its seconds and the stages of its `results.json`."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "experiment=icons_20pct", *overrides],
        env=os.environ | {"ICONS_OUTPUT": str(output)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - started
    (results,) = output.glob("runs/*/*/*/results.json")
    return seconds, json.loads(results.read_text())["stages"]


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rows", type=int, help="a smaller pool, for a quick look")
    parser.add_argument("overrides", nargs="*", help="config overrides, as run.py takes them")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides]
    if arguments.rows:
        overrides.append(f"data.world.pool_size={arguments.rows}")
    with tempfile.TemporaryDirectory() as folder:
        cold, stages = run(Path(folder), overrides)
        cached, _ = run(Path(folder), overrides)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    table = Table(title="make demo, by stage")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for name, stage in stages.items():
        table.add_row(name, f"{stage['seconds']:.1f}")
    table.add_section()
    table.add_row("whole run, empty cache", f"{cold:.1f}")
    table.add_row("the same again, cached", f"{cached:.1f}")
    table.add_row("peak memory, GB", f"{peak:.2f}")
    Console().print(table)
    if arguments.json:
        figures = {"cold_s": cold, "cached_s": cached, "peak_gb": peak, "stages": stages}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
