"""`results.json`: what one run found. Other programs rely on its keys."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from icons_repro.core.errors import DataError
from icons_repro.core.files import write_json

FILE = "results.json"
SCALES = {
    "tiny": "Tiny scale: not comparable with the paper's numbers.",
    "paper": "Paper scale.",
    "own": "Own data or model: comparable neither with the paper's numbers nor the tiny world's.",
}
"""What a reader must know of each scale."""
BENCHMARK_KEYS = ("score", "metric", "n", "stderr", "higher_is_better", "status")


@dataclass(frozen=True)
class RunResults:
    """The fields are the keys of `results.json`; paths are strings."""

    experiment: str
    setup: str
    scale: str
    """"tiny", "paper" or "own"; their numbers never meet in one table."""
    selector: str
    budget: float
    seed: int
    n_pool: int
    n_selected: int
    selection: str
    adapter: str | None = None
    """None where the run stopped before fine-tuning."""
    influence: str | None = None
    pool: str | None = None
    """The pool's fingerprint: runs of one pool can be paired."""
    evaluations: Mapping[str, str] = field(default_factory=dict)
    """Directories with the answers behind the scores, by model: "this run", "full", "random"."""
    benchmarks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name: score, metric, n, stderr, higher_is_better, status, and a reason if no score."""
    relative: Mapping[str, Any] | None = None
    """value, low, high (percent), reference; `above_blind`, the same with the blind baseline as
    zero; `compared_with`, scores by benchmark of "full", "random" and "blind". None without a
    full-data run of the same setup."""
    leakage: Mapping[str, Any] = field(default_factory=dict)
    """Pictures that tests share with pool and validation: counts by benchmark and task, what was
    not checked and why, and the folder with the rest. Empty where nobody looked."""
    wandb: Mapping[str, Any] = field(default_factory=dict)
    loggers: Mapping[str, Any] = field(default_factory=dict)
    """By logger: mode, id, group, and where to look."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name: fingerprint, cached, seconds."""


def write_results(run_dir: Path, results: RunResults) -> Path:
    """Write `results.json` whole or not at all, and return its path.

    Raises `ValueError` if a benchmark breaks the contract: a number without status "ok", or
    "not available" without a reason.
    """
    for name, result in results.benchmarks.items():
        _check(name, result)
    path = run_dir / FILE
    write_json(path, _finite(asdict(results)))
    return path


def read_results(path: Path) -> RunResults:
    """Read a `results.json`, or the one in a run directory. Raises `DataError` naming the file."""
    path = path / FILE if path.is_dir() else path
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as the results of a run: {error}") from error
    known = {f.name for f in fields(RunResults)}
    required = {"experiment", "setup", "scale", "selector", "budget", "seed", "benchmarks"}
    if missing := sorted(required - set(found)):
        raise DataError(f"{path} lacks {missing}: it is not the results.json of a run.")
    return RunResults(**{key: value for key, value in found.items() if key in known})


def find_results(roots: list[Path]) -> Iterator[Path]:
    """Yield every `results.json` below the folders, in a fixed order."""
    for root in roots:
        yield from sorted(root.rglob(FILE))


def _check(name: str, result: Mapping[str, Any]) -> None:
    if missing := [key for key in BENCHMARK_KEYS if key not in result]:
        raise ValueError(f"benchmark {name} lacks {missing}")
    if result["status"] == "ok":
        if not isinstance(result["score"], int | float) or not math.isfinite(result["score"]):
            raise ValueError(f"benchmark {name} is ok without a finite score")
    elif result["score"] is not None or not result.get("reason"):
        raise ValueError(f"benchmark {name} is {result['status']}: no number, but a reason")


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by null: they are not JSON."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
