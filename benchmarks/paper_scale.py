"""Seconds and memory of every selector at the paper's sizes, from phases measured on fewer rows.

    python benchmarks/selector_scaling.py --paper [--rows 2048] [--only NAMES] [--json FILE]

Methods that only rank or draw run at 665,298 rows as they are. The others are cut into phases; each
phase runs on `--rows` rows with the widths, clusters and list lengths of the full size (Vicuna-7B:
hidden 4,096, COINCIDE 40,960, CLIP 2 x 768, gradients 5,120), and its seconds are multiplied by how
often the full size repeats it. So every figure of theirs is an extrapolation. `settings` are those
for two cores; `exact` is the same method with its default settings by the same arithmetic. k-means
is reckoned at all its 50 iterations, and stops earlier where nothing moves; 7M rows have 105,000
clusters and as many training rows for each. The GPU's column is arithmetic alone, at 40 TFLOP/s of
float32 and 5 GB/s of rows read by the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from icons_repro.features.assignment import make_assigner
from icons_repro.features.clustering import Clustering, _assign, _in_full_space
from icons_repro.features.neighbours import CODEBOOK_ROWS, nearest_neighbours, neighbour_index
from icons_repro.features.projection import random_projection
from icons_repro.features.rows import FeatureRows, unit_rows
from icons_repro.selection.coincide import transferability
from icons_repro.selection.d2_pruning import greedy_pick
from icons_repro.selection.mmd import greedy_mmd, mean_kernel
from icons_repro.selection.self_filter import SelfFilter, _FreeNeighbours
from icons_repro.selection.semdedup import earlier_similarity

ITERATIONS = 50
TRAINING = 160_000
PROJECTED = 256
PER_CLUSTER = 66.5
BUDGET = 0.2
GPU_FLOPS = 4e13
HOST_BYTES = 5e9
SIZES = (665_298, 7_000_000)


@dataclass(frozen=True)
class Estimate:
    """One method at one size."""

    seconds: float
    exact: float
    """Seconds with the default settings."""
    gpu: float
    """Seconds on a GPU, by arithmetic."""
    memory: float
    """Bytes beside the features, by arithmetic."""


def timed(action: Callable[[], Any]) -> float:
    """Seconds of the quicker of two calls."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def clustered_rows(n: int, d: int) -> FeatureRows:
    """Unit rows of a given width around n / 66.5 centres, float16 as features are stored."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, round(n / PER_CLUSTER)), d), dtype=np.float32)
    array = np.empty((n, d), dtype=np.float16)
    for start in range(0, n, 256):
        part = array[start : start + 256]
        noise = rng.standard_normal(part.shape, dtype=np.float32)
        part[:] = unit_rows(centres[rng.integers(0, len(centres), len(part))] + 0.5 * noise)
    return FeatureRows(array, rng.permutation(n))


class KMeansPhases:
    """Seconds a row of each phase of clustering rows of width d."""

    def __init__(self, rows: FeatureRows, clusters: int) -> None:
        rng = np.random.default_rng(0)
        n = len(rows)
        self.rows, self.dim, self.measured = rows, rows.dim, clusters
        self.project = timed(lambda: random_projection(rows, PROJECTED, rng)) / n
        narrow = random_projection(rows, PROJECTED, rng)
        self.narrow = self._assignment(narrow, clusters)
        few = FeatureRows(rows.array, rows.order[: max(64, min(n, 2**23 // rows.dim))])
        self.full = self._assignment(few, clusters)
        self.labels = rng.integers(0, max(1, round(n / PER_CLUSTER)), n)
        found = Clustering(np.zeros((self.labels.max() + 1, 1)), self.labels, np.zeros(n))
        self.members = [m for m in found.members() if len(m)]
        self.refit = timed(lambda: _in_full_space(rows, found, True, None)) / n

    def _assignment(self, rows: FeatureRows, clusters: int) -> float:
        rng = np.random.default_rng(1)
        centroids = unit_rows(rng.standard_normal((clusters, rows.dim), dtype=np.float32))
        assigner = make_assigner("cpu", centroids, spherical=True)
        return timed(lambda: _assign(rows, assigner, None)) / len(rows)

    def at(self, n: int) -> Estimate:
        """Two-core settings, exact, GPU and memory for `n` rows."""
        clusters = round(n / PER_CLUSTER)
        wider = clusters / self.measured
        passes = ITERATIONS * min(TRAINING * max(1, clusters // 10_000), n) + n
        seconds = n * (self.project + self.refit) + passes * self.narrow * wider
        exact_rows = ITERATIONS * min(n, 1_000_000) + n
        exact = exact_rows * self.full * wider
        flops, read = 2 * passes * clusters * self.dim, 2 * passes * self.dim
        gpu = flops / GPU_FLOPS + read / HOST_BYTES
        memory = 4 * n * PROJECTED + 4 * clusters * self.dim + 20 * clusters * PROJECTED
        return Estimate(seconds, exact, gpu, memory)


def plus(base: Estimate, cpu: float, on_gpu_machine: float, memory: float = 0.0) -> Estimate:
    """Add what both ways need, and what it takes beside a GPU (16 cores)."""
    return Estimate(
        base.seconds + cpu, base.exact + cpu, base.gpu + on_gpu_machine, base.memory + memory
    )


def semdedup(n: int, clusters: int) -> Callable[[int], Estimate]:
    """k-means of width 4,096, then similarities inside clusters."""
    phases = KMeansPhases(clustered_rows(n, 4096), clusters)
    inside = timed(lambda: [earlier_similarity(phases.rows, m) for m in phases.members]) / n / 2
    return lambda size: plus(phases.at(size), inside * size, inside * size / 8)


def self_sup(n: int, clusters: int) -> Callable[[int], Estimate]:
    """k-means of CLIP's two halves."""
    return KMeansPhases(clustered_rows(n, 1536), clusters).at


def coincide(n: int, clusters: int) -> Callable[[int], Estimate]:
    """k-means of width 40,960, transferability of the centroids, kernels inside clusters."""
    phases = KMeansPhases(clustered_rows(n, 40_960), clusters)
    few = phases.members[:8]
    share = sum(map(len, few))
    halves = np.random.default_rng(0).standard_normal((512, 20_480))
    transfer = timed(lambda: transferability(halves, 0.9)) / 512**2

    def inside() -> None:
        for m in few:
            typical = mean_kernel(phases.rows, m, 1.0)
            greedy_mmd(phases.rows, m, typical, int(BUDGET * len(m)), 1.0)

    kernels = timed(inside) / share / 2  # two threads

    def at(size: int) -> Estimate:
        count = round(size / PER_CLUSTER)
        seconds = kernels * size + transfer * count**2
        return plus(phases.at(size), seconds, seconds / 8, 8 * count * 20_480)

    return at


def d2_pruning(n: int, clusters: int) -> Callable[[int], Estimate]:
    """COINCIDE's index IVF100,PQ16np, with lists as long as those of 665,298 rows; the heap."""
    rows = clustered_rows(n, 4096)
    rng = np.random.default_rng(0)
    cells = max(1, round(n / 6653))
    build, add, index = built(rows, f"IVF{cells},PQ16np", False, 1)
    search = timed(lambda: nearest_neighbours(rows, 5, index)) / n
    flat = neighbour_index(rows, "Flat", False)
    exact = timed(lambda: nearest_neighbours(rows, 5, flat)) / n**2
    graph = rng.integers(0, 100_000, (100_000, 5))
    heap = timed(lambda: greedy_pick(rng.random(100_000), graph, np.full(graph.shape, 0.1), 20_000))
    heap /= 100_000

    def at(size: int) -> Estimate:
        longer = max(1.0, size / SIZES[0])
        seconds = (build - add) * CODEBOOK_ROWS + (add + search * longer + heap) * size
        memory = size * (16 + 8 + 5 * 12 + 5 * 16) + 4 * 4096 * CODEBOOK_ROWS
        gpu = 2 * size**2 * 4096 / GPU_FLOPS + 4 * size * 4096 / HOST_BYTES + heap * size
        return Estimate(seconds, (exact * size + heap) * size, gpu, memory)

    return at


def self_filter(n: int, clusters: int) -> Callable[[int], Estimate]:
    """RR256,IVF1024,Flat with 8 probes on CLIP's halves, with lists as long as at full size."""
    rows = clustered_rows(n, 1536)
    rows = FeatureRows(rows.array, rows.order, unit=True)
    cells = max(8, round(n / 650))
    build, add, index = built(rows, f"RR256,IVF{cells},Flat", True, 8)
    search = timed(lambda: nearest_neighbours(rows, 40, index)) / n
    flat = neighbour_index(rows, "Flat", True)
    exact = timed(lambda: nearest_neighbours(rows, 40, flat)) / n**2
    heap = seconds_of_a_pick()

    def at(size: int) -> Estimate:
        picks = BUDGET * size
        longer = max(1.0, size / SIZES[0])
        seconds = (build - add) * CODEBOOK_ROWS + add * size
        seconds += picks * (1.5 * search * longer + heap)  # half as many searched in vain
        gpu = 3 * picks * size * 1536 / GPU_FLOPS + 2 * size * 1536 / HOST_BYTES + heap * picks
        return Estimate(seconds, 1.5 * picks * size * exact + heap * picks, gpu, 4 * size * 300)

    return at


def built(rows: FeatureRows, kind: str, cosine: bool, probes: int) -> tuple[float, float, Any]:
    """Seconds a row of making an index, of adding to it alone, and the index."""
    start = time.perf_counter()
    index = neighbour_index(rows, kind, cosine, probes, np.random.default_rng(0))
    build = time.perf_counter() - start
    spare = neighbour_index(rows, kind, cosine, probes, np.random.default_rng(0))
    start = time.perf_counter()
    for _, block in rows.blocks():
        spare.add(block)
    return build / len(rows), (time.perf_counter() - start) / len(rows), index


def seconds_of_a_pick() -> float:
    """Python's part of one pick of Self-Filter, with a narrow index whose search is nothing."""
    narrow = clustered_rows(4000, 16)
    difficulty = np.random.default_rng(0).random(4000)
    index = neighbour_index(narrow, "Flat", True)
    likely = np.argsort(-difficulty, kind="stable")
    near = _FreeNeighbours(narrow, index, 10, likely)
    start = time.perf_counter()
    SelfFilter()._pick(difficulty.tolist(), near, 800)
    return (time.perf_counter() - start) / 800


HEAVY: dict[str, tuple[Callable[[int, int], Callable[[int], Estimate]], str]] = {
    "semdedup": (semdedup, "training_rows=160000 projected_dim=256"),
    "self_sup": (self_sup, "training_rows=160000 projected_dim=256"),
    "coincide": (coincide, "training_rows=160000 projected_dim=256"),
    "d2_pruning": (d2_pruning, "index=IVF100,PQ16np"),
    "self_filter": (self_filter, "index=RR256,IVF1024,Flat probes=8"),
}


def extrapolated(n: int, names: list[str], tiny: bool) -> dict[str, Any]:
    """Print and return each heavy method at both sizes; all figures are extrapolations."""
    head = f"{'extrapolated, two cores':24}{'665,298':>12}{'exact':>12}{'ratio':>8}{'memory':>9}"
    print(f"{head}{'GPU (est.)':>12}{'7M':>10}{'memory':>9}{'GPU':>9}  settings")
    table = {}
    for name in names:
        make, settings = HEAVY[name]
        at = make(n, 200 if tiny else 10_000)
        small, large = (at(size) for size in SIZES)
        cells = f"{hours(small.seconds):>12}{hours(small.exact):>12}"
        cells += f"{small.exact / small.seconds:7.1f}x{small.memory / 2**30:6.1f} GB"
        cells += f"{hours(small.gpu):>12}{hours(large.seconds):>10}{large.memory / 2**30:6.1f} GB"
        print(f"{name:24}{cells}{hours(large.gpu):>9}  {settings}", flush=True)
        table[name] = {
            "settings": settings,
            **{str(s): vars(e) for s, e in zip(SIZES, (small, large), strict=True)},
        }
    return table


def hours(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
