from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icons_repro.core.errors import ConfigError
from icons_repro.evaluation.answers import write_rows
from icons_repro.evaluation.relative import (
    Evaluated,
    Relative,
    above_blind,
    blind_scores,
    mean_interval,
    relative_performance,
)


def stored(
    out: Path, scores: dict[str, list[float]], name: str = "run", setup: str = "tiny"
) -> Evaluated:
    """An evaluate directory with one mean benchmark for each list of per-question scores."""
    results: dict[str, dict[str, Any]] = {}
    for benchmark, values in scores.items():
        rows = [
            {"question_id": str(i), "question": f"q{i}", "score": v} for i, v in enumerate(values)
        ]
        write_rows(out / "answers" / f"{benchmark}.jsonl", rows)
        error = 100 * float(np.std(values, ddof=1) / np.sqrt(len(values)))
        results[benchmark] = {
            "score": 100 * float(np.mean(values)),
            "metric": "exact_match",
            "n": len(values),
            "stderr": error,
            "higher_is_better": True,
            "status": "ok",
        }
        metrics = {
            "result": results[benchmark],
            "settings": {"statistic": "mean", "multiplier": 100.0},
        }
        (out / "metrics").mkdir(exist_ok=True)
        (out / "metrics" / f"{benchmark}.json").write_text(json.dumps(metrics))
    return Evaluated(name, setup, "tiny", results, out)


def width(found: Relative) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def coin(share: float, count: int, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(count) < share).astype(float).tolist()


def test_relative_performance_is_the_mean_of_ratios(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": [1, 1, 1, 0], "b": [1, 0, 0, 0]}, "full")
    run = stored(tmp_path / "r", {"a": [1, 1, 0, 0], "b": [1, 1, 0, 0]})
    found = relative_performance(run, full)
    assert found is not None
    assert found.value == pytest.approx(100 * (2 / 3 + 2) / 2)
    assert found.benchmarks == ("a", "b")
    assert found.reference == "full"


def test_a_run_against_itself_is_exactly_100(tmp_path: Path) -> None:
    full = stored(tmp_path, {"a": coin(0.7, 200, 0), "b": coin(0.5, 100, 1)}, "full")
    found = relative_performance(full, full)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((100.0, 100.0, 100.0))


def test_interval_holds_the_value_and_repeats(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": coin(0.8, 300, 0), "b": coin(0.6, 300, 1)}, "full")
    run = stored(tmp_path / "r", {"a": coin(0.7, 300, 2), "b": coin(0.6, 300, 3)})
    found = relative_performance(run, full)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found == relative_performance(run, full)


def test_pairing_makes_the_interval_of_similar_runs_narrower(tmp_path: Path) -> None:
    truth = coin(0.6, 400, 0)
    nearly = [1 - v if i % 40 == 0 else v for i, v in enumerate(truth)]
    full = stored(tmp_path / "f", {"a": truth}, "full")
    paired = relative_performance(stored(tmp_path / "p", {"a": nearly}), full)
    shuffled = np.random.default_rng(1).permutation(nearly).tolist()
    unpaired = relative_performance(stored(tmp_path / "u", {"a": shuffled}), full)
    assert paired is not None
    assert unpaired is not None
    assert paired.value == pytest.approx(unpaired.value)
    assert width(paired) < 0.5 * width(unpaired)


def test_benchmarks_scored_on_one_side_only_are_left_out_and_named(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": coin(0.8, 50, 0), "c": coin(0.8, 50, 1)}, "full")
    run = stored(tmp_path / "r", {"a": coin(0.8, 50, 2), "b": coin(0.8, 50, 3)})
    failed = {"score": None, "status": "not available", "reason": "no judge", "metric": "x"}
    full = Evaluated("full", "tiny", "tiny", {**full.results, "b": failed}, full.out)
    found = relative_performance(run, full)
    assert found is not None
    assert found.benchmarks == ("a",)
    assert found.left_out == {"b": "full: no judge", "c": "not evaluated for run"}


def test_nothing_in_common_gives_no_number(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": coin(0.8, 50, 0)}, "full")
    assert relative_performance(stored(tmp_path / "r", {"b": coin(0.8, 50, 0)}), full) is None


def test_worlds_and_scales_are_never_mixed(tmp_path: Path) -> None:
    tiny = stored(tmp_path / "t", {"a": [1.0, 0.0]}, "full")
    paper = stored(tmp_path / "p", {"a": [1.0, 0.0]}, setup="llava_665k")
    with pytest.raises(ConfigError, match="different worlds"):
        relative_performance(paper, tiny)


def test_different_questions_give_no_interval(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": coin(0.8, 50, 0)}, "full")
    run = stored(tmp_path / "r", {"a": coin(0.8, 49, 0)})
    found = relative_performance(run, full)
    assert found is not None
    assert found.low is None
    assert "different questions" in found.note


def test_above_blind_takes_the_blind_baseline_as_zero(tmp_path: Path) -> None:
    full = stored(tmp_path / "f", {"a": coin(0.9, 400, 0), "flat": coin(0.5, 400, 1)}, "full")
    run = stored(tmp_path / "r", {"a": coin(0.7, 400, 2), "flat": coin(0.5, 400, 3)})
    blind = {"a": 50.0, "flat": 50.0}
    found = above_blind(run, full, blind)
    assert found is not None
    scores = [r.results["a"]["score"] - 50 for r in (run, full)]
    assert found.value == pytest.approx(100 * scores[0] / scores[1])
    assert "does not clearly beat" in found.left_out["flat"]


def test_blind_baselines_come_in_percent(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(json.dumps({"benchmarks": {"a": {"blind": 0.25}}}))
    assert blind_scores(tmp_path / "world.json") == {"a": 25.0}


def test_seed_interval_is_students_t() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (high - mean) == pytest.approx(4.3026527 * 1.0 / np.sqrt(3), rel=1e-6)
    assert (mean - low) == pytest.approx(high - mean)
    assert np.isnan(mean_interval([1.0])[1])
