"""What a cascade loses and saves, by cheap source and share.

    python benchmarks/cascade.py [--json FILE] [--rows 8000] [--only bm25,rds] [--timed bm25]
                                 [--cache FOLDER] [--tiny]

On the tiny world, ICONS' vote at 20%. Recall: the share of the rows chosen with everybody's
gradients that the cascade chooses, too. Gradients of all rows are taken once; a cascade's own are
the same but for rounding (tests/influence/test_cascade.py), so all its choices follow from them.
What is saved is measured: with `--timed SOURCE` gradients are really taken of what comes through
that source at each share, and their processor seconds stand over those of all rows. `random` is
the control: what a source that knows nothing would keep. With `--cache` what is there is used, and
what is made stays; seconds then are those of the steps that this call made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from grid import graph_of
from rich.console import Console
from rich.table import Table

SOURCES = ("rds", "forward", "gradients_last", "clip", "bm25", "random")
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
BUDGET = 0.2


def recalls(rows: int, root: Path, sources: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return, for each source and share, what comes through, recall, and the tasks' recalls."""
    from icons_repro.core.build import obtain
    from icons_repro.core.cache import Cache
    from icons_repro.core.types import InfluenceMatrix
    from icons_repro.data.records import RecordTable

    cache = Cache(root)
    first = graph_of(world(rows))
    full = InfluenceMatrix.load(obtain(first.influence, cache) / "influence.parquet")
    usable = RecordTable(obtain(first.pool, cache) / "records.arrow").usable
    assert usable.all()
    found: dict[str, dict[str, Any]] = {}
    for name in sources:
        goal = graph_of([*world(rows), f"influence={name}"]).influence
        cheap = InfluenceMatrix.load(obtain(goal, cache) / "influence.parquet")
        found[name] = {str(share): recall(full, cheap, share) for share in SHARES}
        print(name, {k: round(v["recall"], 3) for k, v in found[name].items()}, flush=True)
    return found


def recall(full: Any, cheap: Any, share: float) -> dict[str, float]:
    """Compare the choice with everybody's influence to the cascade's."""
    from icons_repro.core.types import InfluenceMatrix
    from icons_repro.influence.cascade.screen import below, by_whole_task, came_through

    there = came_through(cheap.values, cheap.tasks, cheap.keys, share)
    values = np.where(
        there[:, None],
        full.values,
        below(full.values[there], full.tasks, cheap.values, cheap.tasks),
    )
    cascade = InfluenceMatrix(values, full.tasks, full.keys, there)
    all_rows, chosen = choice(full), choice(cascade)
    merged, _ = by_whole_task(full.values, full.tasks)
    best = np.argsort(-merged, axis=0)[: int(BUDGET * len(merged))]
    return {
        "came_through": float(there.mean()),
        "recall": float(np.isin(all_rows, chosen).mean()),
        "best_of_a_task": float(there[best].mean()),
    }


def choice(matrix: Any) -> np.ndarray:
    """Return the rows that the vote chooses."""
    from icons_repro.core.types import Pool
    from icons_repro.selection.icons import Icons

    n = len(matrix.keys)
    plain = np.full(n, "s"), np.ones(n, dtype=np.int64), np.ones(n, dtype=bool)
    pool = Pool(matrix.keys, *plain, {"influence": matrix})
    return Icons().select(pool, int(BUDGET * n), np.random.default_rng(0)).positions


def seconds(rows: int, root: Path, source: str) -> dict[str, float]:
    """Return processor seconds of the pool's gradients at each share, and of all rows'."""
    from icons_repro.core.build import build, obtain
    from icons_repro.core.cache import Cache

    cache = Cache(root)
    some = [*world(rows), "influence=cascade", f"influence.first={source}"]
    goals = {
        str(share): graph_of([*some, f"influence.share={share}"]).influence.influence.train
        for share in SHARES
    }
    goals["1.0"] = graph_of(world(rows)).influence.train
    spent = {}
    for share, goal in goals.items():
        if cache.is_ready(goal):
            continue
        for step in goal.inputs.values():
            obtain(step, cache)
        started = time.process_time()
        build(goal, cache)
        spent[share] = time.process_time() - started
        print(f"gradients at {source} {share}: {spent[share]:.1f} s", flush=True)
    return spent


def world(rows: int) -> list[str]:
    """Return the overrides of a world of so many rows."""
    return [f"data.world.pool_size={rows}"]


def show(figures: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"cascades on {figures['rows']:,} rows, the vote at 20%")
    for heading in ("first", "share", "rows through", "recall", "a task's best fifth"):
        table.add_column(heading, justify="left" if heading == "first" else "right")
    for name, shares in figures["recall"].items():
        for share, one in shares.items():
            cells = (one["came_through"], one["recall"], one["best_of_a_task"])
            table.add_row(name, share, *(f"{cell:.2f}" for cell in cells))
    Console().print(table)
    whole = figures["seconds"].get("1.0")
    for share, spent in figures["seconds"].items():
        part = f", {spent / whole:.2f} of all" if whole else ""
        print(f"gradients, {figures['timed']} {share}: {spent:.1f} processor s{part}")


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--only", default=",".join(SOURCES), help="sources, with commas")
    parser.add_argument("--cache", type=Path, help="a run's cache, such as outputs/cache")
    parser.add_argument("--timed", choices=SOURCES, help="also time this cascade's gradients")
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    arguments = parser.parse_args()
    rows = 120 if arguments.tiny else arguments.rows
    sources = ("bm25", "random") if arguments.tiny else tuple(arguments.only.split(","))
    timed = "bm25" if arguments.tiny else arguments.timed
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.cache or Path(folder) / "cache"
        spent = seconds(rows, root, timed) if timed else {}
        figures: dict[str, Any] = {"rows": rows, "timed": timed, "seconds": spent}
        figures["recall"] = recalls(rows, root, sources)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
