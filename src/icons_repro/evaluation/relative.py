"""Compare a run with a reference run of the same setup.

    Rel.(%)       = 100 * mean_b(score_b / reference_b)                           (the paper's)
    above blind   = 100 * mean_b((score_b - blind_b) / (reference_b - blind_b))

unweighted over benchmarks b. A yes/no benchmark is half solved by guessing, so Rel. has a high
floor; the second form takes the blind baseline (no look at the picture) as zero.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.evaluation.measured import read_answers
from icons_repro.evaluation.statistics import replicates

LEVEL = 0.95
MOST_UNDEFINED = 0.01
"""Share of resamples that may lack a positive reference; the interval is over the others."""


@dataclass(frozen=True)
class Evaluated:
    """One evaluated model: where its results are and what they may be compared with."""

    name: str
    """How tables call it: the run, or "full"."""
    setup: str
    scale: str
    """"tiny" or "paper"."""
    results: Mapping[str, Mapping[str, Any]]
    """`evaluate`'s results by benchmark."""
    out: Path | None = None
    """The evaluate directory, for per-question answers; without it there is no interval."""


@dataclass(frozen=True)
class Relative:
    """A relative performance in percent, with a bootstrap interval over test pictures."""

    value: float
    low: float | None
    high: float | None
    reference: str
    benchmarks: tuple[str, ...] = ()
    """The benchmarks it averages."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Benchmarks it does not, and why."""
    note: str = ""
    """Why there is no interval, if there is none."""

    def to_json(self) -> dict[str, Any]:
        """Return the object of `results.json`."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "reference": self.reference,
            "benchmarks": list(self.benchmarks),
            "left_out": dict(self.left_out),
            "note": self.note,
        }


def relative_performance(
    run: Evaluated, reference: Evaluated, resamples: int = 2000, seed: int = 0
) -> Relative | None:
    """Return Rel.(%) of `run`; None if the two share no scored benchmark.

    Raises `ConfigError` if the runs are of different setups or scales.
    """
    return _compare(run, reference, {}, resamples, seed)


def above_blind(
    run: Evaluated,
    reference: Evaluated,
    blind: Mapping[str, float],
    resamples: int = 2000,
    seed: int = 0,
) -> Relative | None:
    """Return the above-blind relative performance; `blind` is on the scale of the scores.

    A benchmark on which the reference does not beat the blind baseline by two standard errors is
    left out: it measures nothing, and its ratio would be noise over noise.
    """
    return _compare(run, reference, blind, resamples, seed, above=True)


def blind_scores(world: Path) -> dict[str, float]:
    """Return the blind baselines of a tiny world's `world.json`, in percent."""
    stated = json.loads(world.read_text())["benchmarks"]
    return {name: 100.0 * entry["blind"] for name, entry in stated.items()}


def mean_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Return mean, low and high of a Student t interval over seeds; NaN ends for one value."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, float("nan"), float("nan")
    from scipy import stats

    half = stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return mean, mean - float(half), mean + float(half)


def check_comparable(runs: Sequence[Evaluated]) -> None:
    """Raise `ConfigError` unless all runs share one setup and one scale."""
    kinds = sorted({(run.setup, run.scale) for run in runs})
    if len(kinds) > 1:
        found = ", ".join(f"{setup} ({scale})" for setup, scale in kinds)
        raise ConfigError(
            f"scores of different worlds cannot be compared: {found}. "
            "Give runs of one setup, or compute a reference for this one."
        )


def _compare(
    run: Evaluated,
    reference: Evaluated,
    blind: Mapping[str, float],
    resamples: int,
    seed: int,
    above: bool = False,
) -> Relative | None:
    check_comparable([run, reference])
    left_out: dict[str, str] = {}
    used = []
    for name in run.results:
        problem = _problem(name, run, reference, blind if above else None)
        if problem:
            left_out[name] = problem
        else:
            used.append(name)
    left_out |= {
        n: f"not evaluated for {run.name}" for n in reference.results if n not in run.results
    }
    if not used:
        return None
    floors = np.array([blind.get(name, 0.0) for name in used])
    tops = np.array([run.results[name]["score"] for name in used]) - floors
    bottoms = np.array([reference.results[name]["score"] for name in used]) - floors
    value = float(100.0 * np.mean(tops / bottoms))
    low, high, note = None, None, ""
    if run.out is None or reference.out is None:
        note = "no per-question answers"
    else:
        draws, note = _replicated(used, run, reference, floors, resamples, seed)
        if draws is not None:
            tail = 100 * (1 - LEVEL) / 2
            low, high = (float(v) for v in np.nanpercentile(draws, [tail, 100 - tail]))
    return Relative(value, low, high, reference.name, tuple(used), left_out, note)


def _problem(
    name: str, run: Evaluated, reference: Evaluated, blind: Mapping[str, float] | None
) -> str | None:
    """Return why a benchmark cannot enter the mean, or None."""
    for side in (run, reference):
        result = side.results.get(name)
        if result is None:
            return f"not evaluated for {side.name}"
        if result["status"] != "ok":
            return f"{side.name}: {result.get('reason', 'not available')}"
    mine, theirs = run.results[name], reference.results[name]
    if mine["metric"] != theirs["metric"]:
        return f"different metrics: {mine['metric']} and {theirs['metric']}"
    if not mine["higher_is_better"]:
        return "lower is better: a ratio says nothing"
    if blind is None:
        return "the reference scores 0" if theirs["score"] <= 0 else None
    if name not in blind:
        return "no blind baseline"
    margin = 2 * (theirs["stderr"] or 0.0)
    if theirs["score"] - blind[name] <= margin:
        return f"{reference.name} does not clearly beat the blind baseline"
    return None


def _replicated(
    used: Sequence[str],
    run: Evaluated,
    reference: Evaluated,
    floors: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[np.ndarray | None, str]:
    """Return bootstrap values `[resamples]` of the mean ratio, or None and the reason."""
    assert run.out is not None
    assert reference.out is not None
    total = np.zeros(resamples)
    for floor, name in zip(floors, used, strict=True):
        mine, theirs = read_answers(run.out, name), read_answers(reference.out, name)
        if mine is None or theirs is None:
            return None, f"{name}: its score does not follow from its answers"
        if mine.questions != theirs.questions:
            return None, f"{name}: the two runs answered different questions"
        draws = replicates([mine.units, theirs.units], resamples, seed + zlib.crc32(name.encode()))
        top, bottom = (draws * mine.multiplier) - floor
        total += np.divide(top, bottom, out=np.full(resamples, np.nan), where=bottom > 0)
    if np.isnan(total).mean() > MOST_UNDEFINED:
        return None, "the reference is too close to zero to resample"
    return 100.0 * total / len(used), ""
