"""The benchmarks of gradients, projections and scoring run, and write the figures they promise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from forked import run_forked

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "figures"),
    [
        ("gradients.py", {"over_floor", "over_reference", "projection"}),
        ("projections.py", {"overlap", "overlap_dense", "overlap_int8", "overlap_bit1"}),
        ("scoring.py", {"over_read", "over_read_warm", "peak_gb", "rows"}),
    ],
)
def test_a_benchmark_writes_its_figures(script: str, figures: set[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--tiny", "--threads", "1", "--json", str(report)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = run_forked(words, tmp_path, environment, str(BENCHMARKS), BENCHMARKS / script)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads(report.read_text())
    assert figures <= set(written)
    assert len(written["table"]) >= 3
    assert list(tmp_path.iterdir()) == [report], "temporary stores are removed"
