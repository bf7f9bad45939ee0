"""Work is shared out over the cores that a process may use, not over the machine's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from icons_repro.core.cores import cores

BOUND = """
import os
from icons_repro.core.cores import cores
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are not bound here")
def test_a_process_that_is_bound_to_a_core_has_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUND], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_the_environment_bounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    assert 1 <= cores() <= (os.cpu_count() or 1)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cores() == 1


def test_ranks_share_the_cores_out_and_heed_a_lower_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from icons_repro.training import distributed

    monkeypatch.setattr(distributed, "cores", lambda: 64)
    for given, devices, threads in ((None, 8, "8"), ("64", 8, "8"), ("4", 8, "4"), ("2", 128, "1")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert distributed._quiet(devices)["OMP_NUM_THREADS"] == threads
