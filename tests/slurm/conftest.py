"""The fixture `slurm`: a real cluster of two nodes, started once for a test session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, ClusterError, missing
from slurm_client import Slurm

STEPS = str(Path(__file__).parents[1] / "core")
sys.path.insert(0, STEPS)  # `steps` must be importable here, and in the jobs
os.environ["PYTHONPATH"] = os.pathsep.join([STEPS, os.environ.get("PYTHONPATH", "")])


def _unavailable(reason: str) -> None:
    """Skip, or stop the run where SLURM was asked for by name (`make test-slurm`)."""
    if os.environ.get("REQUIRE_SLURM"):
        pytest.exit(f"No SLURM here: {reason}", returncode=1)
    pytest.skip(f"no SLURM: {reason}")


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Slurm]:
    """The cluster itself, for fixtures of a wider scope than one test."""
    reason = missing()
    if reason:
        _unavailable(reason)
    cluster = Cluster()
    try:
        yield cluster.start()
    except ClusterError as error:
        _unavailable(str(error))
    finally:
        cluster.stop()


@pytest.fixture
def slurm(slurm_cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """An idle cluster that this process speaks to as well, e.g. through submitit."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH"))]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm_cluster.env[name])
    slurm_cluster.clear()
    yield slurm_cluster
    slurm_cluster.clear()
