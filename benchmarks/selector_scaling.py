"""Time and peak memory of every selector against the size of the pool, on synthetic features.

    python benchmarks/selectors.py [--tiny] [--rows 10000,50000,200000] [--only NAMES] [--json FILE]
    python benchmarks/selectors.py --paper [--rows 2048]    the paper's sizes (paper_scale.py)

Each measurement runs in its own process. Memory is what the selection adds to the pool and its
features. The features are narrow (16 to 64 numbers a row; with --paper, Vicuna-7B's and CLIP's
widths) and k-means runs 3 iterations, so that the whole table takes less than a minute. `growth` is
the exponent between the two largest pools, 1 for linear. The last line is the paper's own size: the
vote over 665,298 rows and 22 columns.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from paper_scale import HEAVY, SIZES, extrapolated

from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.selection.clip_score import ClipScore
from icons_repro.selection.coincide import Coincide
from icons_repro.selection.d2_pruning import D2Pruning
from icons_repro.selection.el2n import EL2N
from icons_repro.selection.full import Full
from icons_repro.selection.icons import Icons
from icons_repro.selection.less import Less
from icons_repro.selection.longest import Longest
from icons_repro.selection.oracle import Oracle
from icons_repro.selection.perplexity import Perplexity
from icons_repro.selection.proportional import Proportional
from icons_repro.selection.random import Random
from icons_repro.selection.random_per_source import RandomPerSource
from icons_repro.selection.released import Released
from icons_repro.selection.round_robin import RoundRobin
from icons_repro.selection.self_filter import SelfFilter
from icons_repro.selection.self_sup import SelfSup
from icons_repro.selection.semdedup import SemDeDup
from icons_repro.selection.tive import Tive
from icons_repro.selection.xmas import Xmas

BUDGET = 0.2
PAPER = (SIZES[0], 22)
SELECTORS: dict[str, Callable[[], Any]] = {
    "random": Random,
    "full": Full,
    "random_per_source": RandomPerSource,
    "longest": Longest,
    "oracle": Oracle,
    "released": Released,
    "el2n": EL2N,
    "perplexity": Perplexity,
    "clip_score": ClipScore,
    "icons": Icons,
    "icons_as_released": lambda: Icons(
        percentile="budget",
        comparison=">=",
        tie_rule="numpy_argsort",
        influence="influence_as_released",
    ),
    "icons (floor)": lambda: Icons(rule="vote_with_floor", floor=0.02),
    "round_robin": RoundRobin,
    "proportional": Proportional,
    "less": Less,
    "tive": Tive,
    "semdedup": lambda: SemDeDup(iterations=3),
    "self_sup": lambda: SelfSup(iterations=3),
    "coincide": lambda: Coincide(iterations=3),
    "xmas": lambda: Xmas(iterations=3),
    "d2_pruning (IVF256)": lambda: D2Pruning(index="IVF256,Flat", probes=4),
    "self_filter (IVF256)": lambda: SelfFilter(index="IVF256,Flat", probes=4),
}


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def blobs(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Clustered rows, about 66 around each centre: float32 `[n, d]`."""
    centres = rng.standard_normal((max(1, n // 66), d), dtype=np.float32)
    noise = rng.standard_normal((n, d), dtype=np.float32)
    return centres[rng.integers(0, len(centres), n)] + 0.3 * noise


def make_features(name: str, rng: np.random.Generator, n: int, keys: np.ndarray) -> Any:
    """One synthetic artifact of `n` rows."""
    if name in ("influence", "influence_less", "influence_as_released"):
        values = rng.standard_normal((n, 22), dtype=np.float32)
        values += rng.standard_normal((n, 1), dtype=np.float32)  # tasks agree in part
        return InfluenceMatrix(values, tuple(f"task{j}" for j in range(22)), keys)
    if name == "forward_stats":
        return {part: rng.random(n, dtype=np.float32) for part in ("loss", "el2n", "margin")}
    if name == "clip":
        return {"image": unit(blobs(rng, n, 32)), "text": unit(blobs(rng, n, 32))}
    if name == "coincide":
        return {"rows": unit(np.tanh(blobs(rng, n, 40))).astype(np.float16), "layers": 5}
    if name == "instance_gradients":
        return {"rows": blobs(rng, n, 64), "norms": rng.random(n, dtype=np.float32)}
    if name == "attention_trajectory":
        return rng.random((n, 10, 5), dtype=np.float32)
    if name == "truth":
        return {"on_target": rng.random(n) < 0.2, "mislabelled": rng.random(n) < 0.1}
    if name == "self_filter":
        return {"difficulty": rng.random(n, dtype=np.float32)}
    if name == "released_keys":
        part = rng.permutation(keys)[: n // 5]
        return {"subset": part, "text": part, "pool_text": keys}
    return blobs(rng, n, 32)


def full_width(name: str, rng: np.random.Generator, n: int) -> Any:
    """The artifacts that methods read in one pass, as wide as at the paper's scale; or None."""
    if name == "clip":
        return {half: repeated(rng, n, 768, np.float32) for half in ("image", "text")}
    if name == "instance_gradients":
        norms = rng.random(n, dtype=np.float32)
        return {"rows": repeated(rng, n, 5120, np.float16), "norms": norms}
    return None


def repeated(rng: np.random.Generator, n: int, d: int, dtype: Any) -> np.ndarray:
    """Unit rows `[n, d]`, the same few thousand over and over: drawing them all takes minutes."""
    out = np.empty((n, d), dtype=dtype)
    few = unit(rng.standard_normal((min(n, 4096), d), dtype=np.float32))
    for start in range(0, n, len(few)):
        out[start : start + len(few)] = few[: n - start]
    return out


def make_pool(needed: frozenset[str], n: int, wide: bool = False) -> Pool:
    """A pool of `n` rows with the artifacts that are needed."""
    rng = np.random.default_rng(0)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    keys = digits[rng.integers(0, 16, (n, 32), dtype=np.uint8)].view("S32")[:, 0]
    sources = np.array([f"source{i}" for i in range(12)])[rng.integers(0, 12, n)]
    features = {
        name: (full_width(name, rng, n) if wide else None) or make_features(name, rng, n, keys)
        for name in sorted(needed)
    }
    return Pool(keys, sources, rng.integers(1, 400, n), rng.random(n) > 0.06, features)


def memory(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS is resident now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure(case: tuple[str, int, bool]) -> dict[str, float]:
    """Select once in this fresh process: seconds and the memory added."""
    name, n, wide = case
    selector = SELECTORS[name]()
    pool = make_pool(selector.requires, n, wide)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the features
    start, cpu = time.perf_counter(), time.process_time()
    chosen = selector.select(pool, max(1, int(BUDGET * n)), np.random.default_rng(0))
    return {
        "rows": n,
        "selected": len(chosen.positions),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "added_bytes": max(0, memory("VmHWM") - before),
    }


def in_fresh_process(name: str, n: int, wide: bool = False) -> dict[str, float]:
    """Run `measure` in a child that ends with it."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(measure, ((name, n, wide),))


def complexity(name: str) -> str:
    """What the selector's docstring says after "Complexity:"."""
    text = " ".join((type(SELECTORS[name]()).__doc__ or "").split())
    return text.partition("Complexity: ")[2].partition(". ")[0].rstrip(".")


def growth(small: dict[str, float], large: dict[str, float], key: str) -> float | None:
    """Exponent of `key` in the number of rows; None where it is too small to say."""
    floor = 0.02 if key == "seconds" else 2**23
    if small[key] < floor or large[key] < floor:
        return None
    return math.log(large[key] / small[key]) / math.log(large["rows"] / small["rows"])


def show(name: str, runs: list[dict[str, float]], exponents: dict[str, float | None]) -> None:
    """Print one selector's line."""
    cells = [f"{run['seconds']:8.2f} s {run['added_bytes'] / 2**20:6.0f} MB" for run in runs]
    rates = ["   - " if e is None else f"{e:5.2f}" for e in exponents.values()]
    print(f"{name:26}", *cells, *rates, f"  {complexity(name)}", flush=True)


def at_paper_size(rows: int, only: tuple[str, ...], tiny: bool) -> dict[str, Any]:
    """Light methods measured at 665,298 rows, heavy ones extrapolated from phases."""
    light = [n for n in SELECTORS if n.split(" ")[0] not in HEAVY and n.startswith(only)]
    size = 5000 if tiny else SIZES[0]
    print(machine())
    print(f"{'measured':24}{size:>10,} rows  processor      memory    {SIZES[1]:,}, extrapolated")
    measured = {}
    for name in light:
        run = measured[name] = in_fresh_process(name, size, wide=True)
        times = SIZES[1] / size
        gigabytes = run["added_bytes"] / 2**30
        seconds, processor = run["seconds"], run["cpu_seconds"]
        cells = (
            f"{seconds:13.2f} s {processor:8.2f} s {gigabytes:8.2f} GB {processor * times:14.1f} s"
        )
        print(f"{name:24}{cells} {gigabytes * times:8.1f} GB", flush=True)
    heavy = [n for n in HEAVY if n.startswith(only)]
    return {
        "machine": machine(),
        "measured": measured,
        "extrapolated": extrapolated(rows, heavy, tiny),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", help="10000,50000,200000; with --paper, rows of a phase (2048)")
    parser.add_argument("--paper", action="store_true", help="the paper's sizes")
    parser.add_argument("--only", default="", help="comma-separated prefixes of selector names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--tiny", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.paper:
        rows = int(args.rows or (256 if args.tiny else 2048))
        figures = at_paper_size(rows, tuple(args.only.split(",")), args.tiny)
        if args.json:
            args.json.write_text(json.dumps(figures, indent=2))
        return
    given = args.rows or "10000,50000,200000"
    sizes = [1000, 2000] if args.tiny else [int(n) for n in given.split(",")]
    wanted = [n for n in SELECTORS if n.startswith(tuple(args.only.split(",")))]
    print(f"{'selector':26}", *[f"{n:>20,}" for n in sizes], "growth s, MB   complexity")
    table = {}
    for name in wanted:
        runs = [in_fresh_process(name, n) for n in sizes]
        pair = runs[-2:] if len(runs) > 1 else runs * 2
        exponents = {
            key: growth(*pair, key) if len(runs) > 1 else None for key in ("seconds", "added_bytes")
        }
        show(name, runs, exponents)
        table[name] = {"runs": runs, "growth": exponents, "complexity": complexity(name)}
    paper = in_fresh_process("icons", PAPER[0])
    line = f"{paper['seconds']:.2f} s ({paper['cpu_seconds']:.2f} s of processor time), "
    line += f"{paper['added_bytes'] / 2**20:.0f} MB"
    print(f"icons vote on {PAPER[0]:,} x {PAPER[1]} scores: {line}")
    if args.json:
        args.json.write_text(json.dumps({"selectors": table, "icons_paper": paper}, indent=2))


if __name__ == "__main__":
    main()
