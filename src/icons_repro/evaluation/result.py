"""What is known of one benchmark: its score, or why there is none."""

from __future__ import annotations

from typing import Any

from icons_repro.evaluation.settings import BenchmarkSettings

Result = dict[str, Any]
"""`score`, `metric`, `n`, `stderr`, `higher_is_better`, `status`, and `reason` if there is no
score. `score` and `stderr` are on the scale of the paper's tables (percent; MME in points)."""

NOT_AVAILABLE = "not available"


class UnavailableError(Exception):
    """A benchmark cannot be scored here; the message says why."""


def not_available(benchmark: BenchmarkSettings, reason: str) -> Result:
    """Return the result of a benchmark that could not be scored."""
    return {
        "score": None,
        "metric": benchmark.metric,
        "n": 0,
        "stderr": None,
        "higher_is_better": benchmark.higher_is_better,
        "status": NOT_AVAILABLE,
        "reason": reason,
    }
