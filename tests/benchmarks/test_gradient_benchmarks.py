"""The benchmarks of gradients, projections and scoring run, and write the figures they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    options = ["--tiny", "--threads", "1", "--json", str(report)]
    subprocess.run(
        [sys.executable, BENCHMARKS / script, *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=240,
    )
    written = json.loads(report.read_text())
    assert figures <= set(written)
    assert len(written["table"]) >= 3
    assert list(tmp_path.iterdir()) == [report], "temporary stores are removed"
