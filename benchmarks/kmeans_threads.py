"""What threads gain in k-means: one pass over the rows, nearest centroids and sums.

    python benchmarks/kmeans_threads.py [--rows 8192] [--json FILE] [--tiny]

One thread and all cores take turns on rows of width 4,096 (Vicuna-7B's); every thread's BLAS has
one thread, so that bits do not depend on their number. Seconds are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from machine import machine
from paper_scale import clustered_rows

from icons_repro.features.assignment import make_assigner
from icons_repro.features.clustering import _assign

ROUNDS = 5
CENTROIDS = 2000


def seconds_by_threads(rows: int) -> dict[int, float]:
    """Time one pass by one thread and by all cores, in turns."""
    data = clustered_rows(rows, 4096)
    centroids = data.gather(slice(0, min(rows, CENTROIDS)))
    taken: dict[int, list[float]] = {1: [], os.cpu_count() or 1: []}
    for _ in range(ROUNDS):
        for threads, seconds in taken.items():
            assigner = make_assigner("cpu", centroids, spherical=True)
            start = time.perf_counter()
            _assign(data, assigner, threads)
            seconds.append(time.perf_counter() - start)
    return {threads: statistics.median(seconds) for threads, seconds in taken.items()}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    arguments = parser.parse_args()
    rows = 256 if arguments.tiny else arguments.rows
    where = machine()
    seconds = seconds_by_threads(rows)
    print(f"{where}\n{rows:,} rows x 4,096, {min(rows, CENTROIDS):,} centroids")
    for threads, median in seconds.items():
        print(f"{threads} thread(s): {median:.2f} s, {seconds[1] / median:.2f}x")
    if arguments.json:
        figures = {"machine": where, "rows": rows, "seconds": seconds}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
