"""Single entries of the files that a run leaves."""

from __future__ import annotations

from typing import Any


def benchmark_result(score: float | None, **more: Any) -> dict[str, Any]:
    """One benchmark's result; without a score it says why."""
    base = {"metric": "exact_match", "n": 40, "stderr": 2.0, "higher_is_better": True}
    if score is None:
        return {"score": None, **base, "n": 0, "status": "not available", "reason": "no key"} | more
    return {"score": score, **base, "status": "ok"} | more
