"""What threads gain in k-means: one pass over the rows, nearest centroids and sums.

    python benchmarks/kmeans_threads.py [--rows 8192] [--json FILE] [--tiny]

One thread and all cores take turns on rows of width 4,096 (Vicuna-7B's); every thread's BLAS has
one thread, so that bits do not depend on their number. Seconds are medians over the rounds. On a
busy machine read the gain by processor time: what one thread takes in all, over what the main
thread takes alone and its share of what the others take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from machine import machine
from paper_scale import clustered_rows

from icons_repro.core.machine import cores
from icons_repro.features.assignment import make_assigner
from icons_repro.features.clustering import _assign

ROUNDS = 5
CENTROIDS = 2000


@dataclass(frozen=True)
class Taken:
    """Seconds of one pass."""

    wall: float
    processor: float
    """Of all threads together."""
    alone: float
    """Of the main thread, while the others wait for it or work ahead."""


def passes(rows: int) -> dict[int, Taken]:
    """Time one pass by one thread and by all cores, in turns."""
    data = clustered_rows(rows, 4096)
    centroids = data.gather(slice(0, min(rows, CENTROIDS)))
    taken: dict[int, list[Taken]] = {1: [], cores(): []}
    for _ in range(ROUNDS):
        for threads, rounds in taken.items():
            assigner = make_assigner("cpu", centroids, spherical=True)
            wall, processor, alone = time.perf_counter(), time.process_time(), time.thread_time()
            _assign(data, assigner, threads)
            rounds.append(
                Taken(
                    time.perf_counter() - wall,
                    time.process_time() - processor,
                    time.thread_time() - alone,
                )
            )
    return {
        n: Taken(*map(statistics.median, zip(*map(astuple, r), strict=True)))
        for n, r in taken.items()
    }


def gain(one: Taken, many: Taken, threads: int) -> float:
    """Return how many times faster many threads can be, by processor time."""
    return one.processor / (many.alone + (many.processor - many.alone) / threads)


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    arguments = parser.parse_args()
    rows = 256 if arguments.tiny else arguments.rows
    where = machine()
    found = passes(rows)
    print(f"{where}\n{rows:,} rows x 4,096, {min(rows, CENTROIDS):,} centroids")
    for threads, taken in found.items():
        print(
            f"{threads} thread(s): {taken.wall:.2f} s, {found[1].wall / taken.wall:.2f}x; "
            f"processor {taken.processor:.2f} s, {taken.alone:.2f} of it alone, "
            f"{gain(found[1], taken, threads):.2f}x"
        )
    if arguments.json:
        seconds = {threads: asdict(taken) for threads, taken in found.items()}
        figures = {"machine": where, "rows": rows, "seconds": seconds}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
