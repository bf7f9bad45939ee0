"""What each source of influence costs in passes, and each rule at the paper's size.

    python benchmarks/grid.py [--json FILE] [--tiny] [--rules-only] [--width D] [--validation V]

Sources: on a small tiny world, processor seconds of each source's own steps over pool and
validation rows (what it shares with others, such as the warm-up, is made before), over those of a
forward pass (`rds`, with losses) and of plain gradients (`gradients`, forward + backward and the
store). Rules: on
665,298 made-up rows of 10 tasks, by task and by validation row, features given; a row's width and
the number of validation rows are options, since a pass by validation row is N x V x D operations.
`uot` takes 16 validation rows of each task.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
ROWS, TASKS, BUDGET = 665_298, 10, 0.2
SOURCES = (
    *("rds", "gradients", "gradients_last", "gradients_subspace", "preconditioned", "forward"),
    *("clip", "bm25", "random"),
)


def graph_of(overrides: list[str]) -> Any:
    """Return the graph of the tiny world with these overrides."""
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict

    from icons_repro.config.checks import typed
    from icons_repro.config.register import register
    from icons_repro.graph.graph import Graph

    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides=overrides)
    with open_dict(config):
        config.names = {"setup": "tiny", "experiment": "grid", "selector": "icons"}
        nowhere = f"{tempfile.gettempdir()}/icons-repro-grid"
        config.paths = {"output": nowhere, "cache": f"{nowhere}/cache", "run": f"{nowhere}/run"}
    return Graph(typed(config))


def seconds_of(goal: Any, root: Path, shared: Any) -> tuple[float, dict[str, float]]:
    """Make a goal in a cache that holds nothing but `shared`; return its processor seconds."""
    from icons_repro.core.build import build
    from icons_repro.core.cache import Cache
    from icons_repro.core.step import ordered

    cache = Cache(root)
    own: dict[str, float] = {}
    for step in ordered([goal]):
        started = time.process_time()
        build(step, cache)
        if step.fingerprint not in shared:
            own[step.stage] = own.get(step.stage, 0.0) + time.process_time() - started
    return sum(own.values()), own


def measure_sources(rows: int) -> dict[str, Any]:
    """Return processor milliseconds a row of every source, and its ratio to both floors."""
    from icons_repro.core.build import obtain
    from icons_repro.core.cache import Cache
    from icons_repro.core.step import ordered

    small = [f"data.world.pool_size={rows}", "data.world.test_rows=8"]
    small += ["data.world.validation_rows=20", "warmup.train.epochs=1"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "cache")
        first = graph_of(small)
        for step in (first.warmup, first.targets):
            obtain(step, cache)
        shared = {step.fingerprint for step in ordered([first.warmup, first.targets])}
        goals = {n: graph_of([*small, f"influence={n}"]).influence for n in SOURCES}
        both = [*small, "influence=preconditioned", "influence.sides=both"]
        goals["preconditioned, both sides"] = graph_of(both).influence
        for name, goal in goals.items():
            for step in ordered([goal]):
                if step.fingerprint not in shared:
                    _forget(cache, step)
            total, own = seconds_of(goal, cache.root, shared)
            found[name] = {"ms_a_row": 1000 * total / rows, "steps_s": own}
            print(f"{name}: {found[name]['ms_a_row']:.2f} ms a row", flush=True)
    floor = found["rds"]["ms_a_row"], found["gradients"]["ms_a_row"]
    for one in found.values():
        one["over_forward"], one["over_gradients"] = (one["ms_a_row"] / f for f in floor)
    pair = (found["preconditioned, both sides"], found["gradients"])
    extraction = [one["steps_s"]["gradients"] for one in pair]
    found["preconditioned, both sides"]["extraction_over_plain"] = extraction[0] / extraction[1]
    return found


def measure_last_layers(rows: int, depth: int = 4) -> dict[str, dict[str, float]]:
    """Return, for each number of last layers, time over all layers' and agreement with them.

    Agreement is the mean over tasks of the share of a task's best fifth that both have.
    """
    from icons_repro.core.build import obtain
    from icons_repro.core.cache import Cache
    from icons_repro.core.step import ordered
    from icons_repro.core.types import InfluenceMatrix

    small = [f"data.world.pool_size={rows}", "data.world.test_rows=8"]
    small += ["data.world.validation_rows=20", "projection=none"]
    values, spent = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "cache")
        first = graph_of(small)
        for step in (first.warmup, first.targets):
            obtain(step, cache)
        shared = {step.fingerprint for step in ordered([first.warmup, first.targets])}
        for k in range(1, depth + 1):
            goal = graph_of([*small, f"gradients.last_layers={k}"]).influence
            spent[k], _ = seconds_of(goal, cache.root, shared)
            values[k] = InfluenceMatrix.load(cache.path(goal) / "influence.parquet").values
    best = {k: np.argsort(-v, axis=0)[: rows // 5] for k, v in values.items()}
    return {
        str(k): {
            "time_over_all": spent[k] / spent[depth],
            "top_fifth_in_common": float(
                np.mean([np.isin(a, b).mean() for a, b in zip(rows_.T, best[depth].T, strict=True)])
            ),
        }
        for k, rows_ in best.items()
    }


def _forget(cache: Any, step: Any) -> None:
    import shutil

    shutil.rmtree(cache.path(step), ignore_errors=True)


def measure_rules(n: int, width: int, v: int) -> dict[str, Any]:
    """Return seconds of every rule at `n` rows, features given."""
    from icons_repro.core.types import InfluenceMatrix, Pool
    from icons_repro.influence.rows.blocks import ByRow, Products
    from icons_repro.influence.rows.files import side_by_side
    from icons_repro.selection.icons import RULES, Icons
    from icons_repro.selection.rules.named import NAMED

    rng = np.random.default_rng(0)
    keys = np.array([b"%032x" % i for i in rng.permutation(n)], dtype="S32")
    tasks = tuple(f"task{t}" for t in range(TASKS))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows_on_disk(Path(folder) / "rows.npy", n, width, rng)
        centres = rng.standard_normal((TASKS, width)).astype(np.float32)
        groups = np.arange(v) % TASKS
        vectors = centres[groups] + rng.standard_normal((v, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        term = Products(side_by_side([rows]), n, vectors)
        by_row = ByRow(tasks, groups, ((1.0, term),), np.arange(n))
        values = rng.standard_normal((n, TASKS)).astype(np.float32)
        features: Mapping[str, Any] = {
            "influence": InfluenceMatrix(values, tasks, keys),
            "influence_rows": by_row,
            "validation_counts": dict.fromkeys(tasks, v // TASKS),
        }
        plain = np.ones(n, dtype=np.int64), np.ones(n, dtype=bool)
        pool = Pool(keys, np.full(n, "s"), *plain, features)
        for rule in (*RULES, *NAMED):
            options = {"rows_per_task": 16} if rule == "uot" else {}
            started = time.perf_counter()
            Icons(rule=rule, options=options).select(pool, int(BUDGET * n), rng)
            found[rule] = time.perf_counter() - started
            print(f"{rule}: {found[rule]:.1f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": found, "peak_gb": peak, "rows": n, "width": width, "validation_rows": v}


def _rows_on_disk(path: Path, n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    rows = np.lib.format.open_memmap(path, "w+", np.dtype(np.float16), (n, width))
    for start in range(0, n, 16384):
        stop = min(start + 16384, n)
        rows[start:stop] = rng.standard_normal((stop - start, width), dtype=np.float32)
    rows.flush()
    return np.load(path, mmap_mode="r")


def show(figures: Mapping[str, Any]) -> None:
    """Print both tables."""
    if sources := figures.get("sources"):
        table = Table(title="sources, processor time")
        for heading in ("source", "ms a row", "x forward pass", "x plain gradients"):
            table.add_column(heading, justify="left" if heading == "source" else "right")
        for name, one in sources.items():
            numbers = (one["ms_a_row"], one["over_forward"], one["over_gradients"])
            table.add_row(name, *(f"{number:.2f}" for number in numbers))
        Console().print(table)
    if layers := figures.get("last_layers"):
        table = Table(title="gradients of the last layers, unprojected, against all layers")
        for heading in ("layers", "time", "best fifth in common"):
            table.add_column(heading, justify="right")
        for k, one in layers.items():
            table.add_row(k, *(f"{one[n]:.2f}" for n in ("time_over_all", "top_fifth_in_common")))
        Console().print(table)
    rules = figures["rules"]
    title = f"rules at {rules['rows']:,} rows, {rules['validation_rows']:,} validation rows"
    table = Table(title=f"{title} of width {rules['width']:,}")
    table.add_column("rule")
    table.add_column("seconds", justify="right")
    for name, seconds in rules["seconds"].items():
        table.add_row(name, f"{seconds:.1f}")
    Console().print(table)


def main() -> None:
    """Measure, print tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    parser.add_argument("--rules-only", action="store_true")
    parser.add_argument("--width", type=int, default=768, help="numbers of a pool row")
    parser.add_argument("--validation", type=int, default=6604, help="validation rows")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    if not arguments.rules_only:
        rows = 80 if arguments.tiny else 600
        figures["sources"] = measure_sources(rows)
        figures["last_layers"] = measure_last_layers(rows)
    n, width, v = (
        (3000, 16, 60) if arguments.tiny else (ROWS, arguments.width, arguments.validation)
    )
    figures["rules"] = measure_rules(n, width, v)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
