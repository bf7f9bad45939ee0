"""The table at the paper's sizes runs, and says what it measured and what it extrapolated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_light_methods_are_measured_and_heavy_ones_extrapolated(tmp_path):
    script, out = ROOT / "benchmarks" / "selectors.py", tmp_path / "out.json"
    names = "random,self_sup,self_filter"
    command = [sys.executable, script, "--paper", "--tiny", "--only", names, "--json", out]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    figures = json.loads(out.read_text())
    assert set(figures["measured"]) == {"random", "random_per_source"}
    assert set(figures["extrapolated"]) == {"self_sup", "self_filter"}
    for row in figures["extrapolated"].values():
        small, large = row["665298"], row["7000000"]
        assert 0 < small["seconds"] < large["seconds"]
        assert 0 < small["memory"] < large["memory"]
