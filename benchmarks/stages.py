"""Seconds and peak memory of the main job, stage by stage, from an empty cache.

    python benchmarks/stages.py [--json FILE] [--rows N] [--bfloat16] [KEY=VALUE ...]

Runs `run.py experiment=icons_20pct` (ICONS, random and full data) in a temporary folder, then the
same command again, where everything is cached. With `--bfloat16` it does so again with the types of
`trainer=gpu` (frozen weights in bfloat16, autocast), and prints both.
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
BFLOAT16 = ["trainer.model_dtype=bfloat16", "trainer.precision=bf16-mixed"]
WHOLE = (
    ("whole run, empty cache", "cold_s", 1),
    ("its processor time", "processor_s", 1),
    ("the same again, cached", "cached_s", 1),
    ("peak memory, GB", "peak_gb", 2),
)


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


def measure(overrides: list[str]) -> dict[str, Any]:
    """Run twice in a fresh folder: seconds of both and of each stage, and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cold, stages = run(Path(folder), overrides)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cached, _ = run(Path(folder), overrides)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss / 2**20
    return {
        "cold_s": cold,
        "processor_s": processor,
        "cached_s": cached,
        "peak_gb": peak,
        "stages": stages,
    }


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rows", type=int, help="a smaller pool, for a quick look")
    parser.add_argument("--bfloat16", action="store_true", help="the same in bfloat16, beside it")
    parser.add_argument("overrides", nargs="*", help="config overrides, as run.py takes them")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides]
    if arguments.rows:
        overrides.append(f"data.world.pool_size={arguments.rows}")
    figures = measure(overrides)
    columns = {"seconds": figures}
    if arguments.bfloat16:
        figures["bfloat16"] = columns["bfloat16"] = measure([*overrides, *BFLOAT16])
    Console().print(table(columns))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def table(columns: dict[str, dict[str, Any]]) -> Table:
    """Return the stages as rows, each measurement as a column."""
    made = Table(title="make demo, by stage")
    made.add_column("stage")
    for heading in columns:
        made.add_column(heading, justify="right")
    (first, *_) = columns.values()
    for name in first["stages"]:
        made.add_row(name, *(f"{c['stages'][name]['seconds']:.1f}" for c in columns.values()))
    made.add_section()
    for name, key, digits in WHOLE:
        made.add_row(name, *(f"{c[key]:.{digits}f}" for c in columns.values()))
    return made


if __name__ == "__main__":
    main()
