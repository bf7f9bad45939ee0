"""Processor seconds and memory of a vote over a matrix that is read in blocks.

    python benchmarks/streamed.py [--json FILE] [--rows 10000000] [--tasks 10] [--tiny]

Blocks are made from a seed whenever they are asked for, so there is no file and no matrix: a pass
costs what making the blocks costs (`making`, measured alone) and what the vote does with them.
Peak memory is the process's, above what it holds before. Up to a million rows, the same blocks are
also put together and voted on in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from reporting import arguments, extra_mb, report

from icons_repro.influence.consensus import thresholds, vote
from icons_repro.selection.streamed import BLOCK_ROWS, Blocks, streamed_thresholds, votes_of

SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
IN_MEMORY = 1_000_000


def made(rows: int, tasks: int) -> Blocks:
    """Return blocks of cosines about each task's own mean, one row in a thousand excluded."""

    def begin() -> Iterator[np.ndarray]:
        for start in range(0, rows, BLOCK_ROWS):
            rng = np.random.default_rng(start)
            count = min(BLOCK_ROWS, rows - start)
            block = rng.random((count, tasks), dtype=np.float32)
            block *= np.float32(0.02)
            block[::1000] = np.nan
            yield block

    return begin


def timed(action: Callable[[], Any]) -> float:
    """Return the processor seconds of a call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def measure(rows: int, tasks: int) -> dict[str, Any]:
    """Vote over so many rows."""
    blocks, found = made(rows, tasks), {}

    def two_passes() -> None:
        found["tau"] = streamed_thresholds(blocks, 80)

    def one_pass() -> None:
        found["votes"] = sum(int(np.nansum(v)) for v in votes_of(blocks, found["tau"]))

    spent: dict[str, float] = {}

    def whole() -> None:
        spent["percentiles"] = timed(two_passes)
        spent["votes"] = timed(one_pass)

    memory = extra_mb(whole)
    making = timed(lambda: [None for _ in blocks()])
    row = {
        "rows": rows,
        "percentiles s": spent["percentiles"] - 2 * making,
        "votes s": spent["votes"] - making,
        "making blocks s": 3 * making,
        "memory MB": memory,
    }
    row["in memory s"] = _in_memory(blocks, found) if rows <= IN_MEMORY else None
    return row


def _in_memory(blocks: Blocks, found: dict[str, Any]) -> float:
    """Return the seconds of the same in memory. Raises unless it finds the same."""
    values = np.concatenate([block.astype(np.float64) for block in blocks()])
    values = np.asfortranarray(values)
    spent = timed(lambda: vote(values, 80))
    assert np.array_equal(thresholds(values, 80), found["tau"])
    assert int(np.nansum(vote(values, 80))) == found["votes"]
    return spent


def main() -> None:
    """Measure and report."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=SIZES[2], help="the largest size")
    parser.add_argument("--tasks", type=int, default=10)
    args = parser.parse_args()
    sizes = [s for s in SIZES if s <= args.rows] if not args.tiny else [1000, 20_000, 300_000]
    rows = [measure(size, args.tasks) for size in sizes]
    last = rows[-1]
    figures = {
        "tasks": args.tasks,
        "ns_a_number": 1e9
        * (last["percentiles s"] + last["votes s"])
        / (last["rows"] * args.tasks),
        "memory_mb": last["memory MB"],
    }
    report(f"The vote of {args.tasks} tasks in blocks, processor time", rows, figures, args.json)


if __name__ == "__main__":
    main()
