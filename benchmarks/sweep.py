"""A sweep as one graph: one process against several, what a fresh process costs, cached jobs.

    python benchmarks/sweep.py [--json FILE] [--quick] [--workers N]

The sweep is icons and random over five budgets and three seeds with full data: 33 jobs of the tiny
world, from an empty cache; `--quick` takes a small world and 5 jobs. Prints seconds of
`executor=inline`, of `executor=local` and their ratio; the seconds of a fresh-process step beyond
its work; of the same sweep when all of it is cached; and of 200 cached jobs of a small world (50
budgets, four seeds of random selection), once with reports on each and once with those there too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SWEEP = ["selector=icons,random", "budget=0.05,0.1,0.2,0.4,0.6", "seed=0,1,2"]
SMALL = [
    *("data.world.pool_size=400", "data.world.test_rows=24", "data.world.validation_rows=12"),
]
MANY = [
    *("selector=random", "stages=[select]", "seed=0,1,2,3"),
    f"budget={','.join(f'{percent / 100:g}' for percent in range(1, 51))}",
]
QUICK = ["selector=icons,random", "budget=0.1,0.2", "finetune.epochs=1", *SMALL]
STEPS = 8


def run(output: Path, *overrides: str) -> float:
    """Run the sweep; return its seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "-m", "experiment=icons_20pct", *overrides],
        env=os.environ | {"ICONS_OUTPUT": str(output)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


def fresh_process_seconds() -> float:
    """Return the median seconds between two steps of no work that follow one another."""
    from icons_repro.core.cache import Cache
    from icons_repro.engine.ledger import Ledger
    from icons_repro.engine.local import LocalExecutor

    sys.path.insert(0, str(ROOT / "tests" / "core"))
    places = [str(ROOT / "tests" / "core"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    from steps import Heavy

    with tempfile.TemporaryDirectory() as folder:
        step: Heavy | None = None
        for number in range(STEPS):
            step = Heavy(value=number, reads=(step,) if step else ())
        assert step is not None
        ledger = Ledger([step], Cache(Path(folder)))
        LocalExecutor({}, 1, ("icons_repro.preload",), gpus=[]).run(ledger)
        steps = list(ledger.needed)
        return statistics.median(ledger.seconds[fp] for fp in steps[1:])


def many_cached_jobs(output: Path) -> dict[str, float]:
    """Return the seconds of 200 jobs of which every step is finished, and then every report."""
    run(output, *MANY, *SMALL, "logger=none")
    shutil.rmtree(output / "runs")
    return {name: run(output, *MANY, *SMALL) for name in ("cached_200_reports_s", "cached_200_s")}


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a small world, five jobs")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    overrides = QUICK if arguments.quick else SWEEP
    local = ["executor=local", f"workers={arguments.workers}"]
    figures = {"fresh_process_s": fresh_process_seconds()}
    with tempfile.TemporaryDirectory() as folder:
        for name, where, more in (
            ("local_s", "local", local),
            ("cached_s", "local", local),
            ("inline_s", "inline", []),
        ):
            figures[name] = run(Path(folder) / where, *overrides, *more)
            print(f"{name} {figures[name]:.1f}", flush=True)
        figures |= many_cached_jobs(Path(folder) / "many")
    figures["inline_over_local"] = figures["inline_s"] / figures["local_s"]
    table = Table(title=f"sweep, {arguments.workers} workers")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
