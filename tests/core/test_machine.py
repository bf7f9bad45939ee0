"""Cores and memory are those that a process may use, not the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from icons_repro.core import machine
from icons_repro.core.machine import cores, free_memory, heed_quota, memory

BOUND = """
import os
from icons_repro.core.machine import cores
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


def test_openmp_heeds_a_quota_but_not_against_what_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 64)
    heed_quota()
    assert os.environ == {}  # no quota: its own choice
    monkeypatch.setattr(machine, "cores", lambda: 4)
    heed_quota()
    assert os.environ == {"OMP_NUM_THREADS": "4"}
    os.environ["OMP_NUM_THREADS"] = "7"
    heed_quota()
    assert os.environ == {"OMP_NUM_THREADS": "7"}


def test_ranks_share_the_cores_out_and_heed_a_lower_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from icons_repro.training import distributed

    monkeypatch.setattr(distributed, "cores", lambda: 64)
    for given, devices, threads in (
        (None, 8, "8"),
        ("64", 8, "8"),
        ("4", 8, "4"),
        ("6,2", 8, "6"),
        ("2", 128, "1"),
    ):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert distributed._ranks_have(devices)["OMP_NUM_THREADS"] == threads


GB = 1 << 30


def group(root: Path, line: str, files: dict[str, str]) -> Path:
    """Write what Linux tells a process of its control group, below `root`."""
    for name, text in {"proc/self/cgroup": line, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_a_jobs_memory_is_its_control_groups_limit(tmp_path: Path) -> None:
    """As SLURM's cgroup plugin makes them: the limit is the job's, the step below has none."""
    job = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    stat = f"anon {GB // 2}\nfile {GB}\ninactive_file {GB // 4}"
    root = group(
        tmp_path,
        "0::/system.slice/slurmstepd.scope/job_7/step_0",
        {
            f"{job}/memory.max": str(2 * GB),
            f"{job}/memory.current": str(GB),
            f"{job}/memory.stat": stat,
            f"{job}/step_0/memory.max": "max",
            f"{job}/step_0/memory.current": str(GB),
            f"{job}/step_0/memory.stat": stat,
        },
    )
    assert memory(root) == 2 * GB
    assert free_memory(root) == GB + GB // 4  # files that were read are given up first


def test_a_container_of_the_older_kind_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory"
    root = group(
        tmp_path,
        "9:cpu,cpuacct:/docker/f00\n4:memory:/docker/f00",
        {
            f"{top}/memory.limit_in_bytes": str(GB),
            f"{top}/memory.usage_in_bytes": str(GB // 2),
            f"{top}/memory.stat": f"cache {GB}\ntotal_inactive_file 0",
        },
    )
    assert memory(root) == GB
    assert free_memory(root) == GB // 2


def test_without_a_limit_memory_is_the_machines(tmp_path: Path) -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory(tmp_path) == whole
    unlimited = str((1 << 63) - 4096)  # version 1 has no word for it
    root = group(
        tmp_path,
        "4:memory:/",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
            "sys/fs/cgroup/memory/memory.stat": "cache 0",
        },
    )
    assert memory(root) == whole
    assert 0 < free_memory(root) <= whole
    assert 0 < free_memory() <= memory() <= whole
