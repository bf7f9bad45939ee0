"""What lmms-eval reports of a task as our result, with its answers in a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.evaluation.answers import answer_rows, judge_gave_up, write_rows
from icons_repro.evaluation.isolation import Overheard
from icons_repro.evaluation.result import UnavailableError
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.statistics import standard_error, units_of

if TYPE_CHECKING:
    from lmms_eval.api.task import Task

log = logging.getLogger(__name__)


def outcome_of(
    benchmark: BenchmarkSettings,
    task: Task,
    report: Mapping[str, Any],
    pictures: Mapping[int, str],
    overheard: Overheard,
    path: Path,
) -> dict[str, Any]:
    """Write the answers to `path`, and return `result`, `metrics` and `task`.

    Args:
        report: what lmms-eval's evaluator returned for this task.
        pictures: what each question's pictures are called (see `answer_rows`).
        overheard: what lmms-eval logged on the way.

    Raises:
        UnavailableError: there is no score, or one that the benchmark's judge did not give.
    """
    name = task.config.task
    numbers = report["results"][name]
    samples = _of_filter(report["samples"][name], numbers, benchmark)
    rows = answer_rows(samples, benchmark.metric, pictures)
    write_rows(path, rows)
    if benchmark.needs_server:
        raise UnavailableError(
            "scored by a test server: send it the file in submissions/, beside the answers"
        )
    _refuse_made_up(benchmark, report["samples"][name], overheard)
    value = numbers.get(f"{benchmark.metric},{benchmark.filter}")
    if not isinstance(value, int | float):
        have = sorted(k for k, v in numbers.items() if isinstance(v, int | float))
        raise UnavailableError(
            f"{name} gave no {benchmark.metric},{benchmark.filter}; it has {have}"
        )
    return {
        "result": _result(benchmark, float(value), rows),
        "metrics": {k: float(v) for k, v in numbers.items() if isinstance(v, int | float)},
        "task": {"name": name, "version": str(task.VERSION), "prompt": _first_prompt(report)},
    }


def _refuse_made_up(
    benchmark: BenchmarkSettings, samples: list[dict[str, Any]], overheard: Overheard
) -> None:
    gave_up = judge_gave_up(samples, benchmark.metric)
    if overheard.judge_failures or gave_up:
        first = (overheard.judge_failures or ["no verdict"])[0]
        raise UnavailableError(
            f"judge: {max(gave_up, len(overheard.judge_failures))} calls failed ({first}); "
            "lmms-eval would put a random or zero score there"
        )


def _result(
    benchmark: BenchmarkSettings, value: float, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Scale the score; add a standard error where the answers reproduce the score."""
    units = units_of(benchmark.statistic, rows)
    if units is not None and abs(units.score() - value) > 1e-6 * max(1.0, abs(value)):
        log.warning(
            "%s: the answers give %g where lmms-eval says %g; no interval for it.",
            benchmark.name, units.score(), value,
        )  # fmt: skip
        units = None
    return {
        "score": value * benchmark.multiplier,
        "metric": benchmark.metric,
        "n": len(rows),
        "stderr": None if units is None else standard_error(units) * benchmark.multiplier,
        "higher_is_better": benchmark.higher_is_better,
        "status": "ok",
    }


def _of_filter(
    samples: list[dict[str, Any]], numbers: Mapping[str, Any], benchmark: BenchmarkSettings
) -> list[dict[str, Any]]:
    """Return the samples of one filter: lmms-eval logs each question once for every filter."""
    keys = [key.split(",", 1)[1] for key in numbers if "," in key]
    filters = list(dict.fromkeys(keys))
    if len(filters) < 2 or benchmark.filter not in filters:
        return samples
    each = len(samples) // len(filters)
    start = filters.index(benchmark.filter) * each
    return samples[start : start + each]


def _first_prompt(report: Mapping[str, Any]) -> str:
    samples = next(iter(report["samples"].values()))
    return str((samples[0].get("arguments") or [""])[0]) if samples else ""
