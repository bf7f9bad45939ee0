"""The rig starts where ports are taken, says why it cannot, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cluster
import pytest
from cluster import Cluster
from rig_leftovers import PREFIX, born, sweep_leftovers
from slurm_client import Slurm


def test_absent_programs_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ADMIN_PATH", "/nowhere")
    reason = cluster.missing() or ""
    assert "slurmctld" in reason
    assert "apt-get install slurm-wlm munge" in reason


def test_a_user_without_rights_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in cluster.PROGRAMS:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(cluster, "ADMIN_PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in (cluster.missing() or "")


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_cluster")
def test_a_taken_port_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = cluster.free_ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answers = iter([[taken.getsockname()[1], *choose(2)], choose(3)])
        monkeypatch.setattr(cluster, "free_ports", lambda count: next(answers))
        rig = Cluster()
        try:
            assert rig.start().idle_nodes() == set(cluster.NODES)
        finally:
            rig.stop()
    assert next(answers, None) is None, "both choices were tried"


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_cluster")
def test_a_stopped_cluster_leaves_neither_processes_nor_files() -> None:
    rig = Cluster()
    slurm = rig.start()
    try:
        slurm.wait_for_output(slurm.sbatch("trap '' TERM; echo up; sleep 600"), "up")
    finally:
        rig.stop()
    assert not slurm.folder.exists()
    assert not processes_of(slurm.folder)


KILLED_RUN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from cluster import Cluster
cluster = Cluster()
slurm = cluster.start()
job = slurm.sbatch("echo up; sleep 600")
slurm.wait_for_output(job, "up")
print(cluster.folder, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slurm
def test_the_next_run_removes_the_cluster_of_a_killed_one(slurm: Slurm) -> None:
    here = str(Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, here], capture_output=True, text=True, timeout=180
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = Path(killed.stdout.strip())
    assert folder.name.startswith(PREFIX)
    assert processes_of(folder), "its job still runs"
    sweep_leftovers()
    assert not folder.exists()
    assert not processes_of(folder)
    assert slurm.srun("hostname"), "a running cluster is left alone"


def processes_of(folder: Path) -> list[str]:
    mark = str(folder).encode()
    return [entry.name for entry in Path("/proc").glob("[0-9]*") if mark in _environ(entry)]


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""


def test_a_process_is_known_by_pid_and_start() -> None:
    assert born(os.getpid()) == born(os.getpid()) != ""
    assert born(2**22 + 1) == ""
