"""Training on several devices: which processes there are, and how they find each other.

Three ways, all with one process for each device:

    one node       torchrun, standalone
    SLURM          inside an allocation of several nodes, `srun` starts a torchrun on each
    by hand        the step itself was started under torchrun or srun on every node: this process is
                   one rank already (docs: From a laptop to a cluster)

A rank that dies ends the whole: torchrun stops the others, and the step fails in one line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.stop import Stopped, asked_to_stop, deferred

WORKER = "icons_repro.training.worker"
JOB = "job.json"


def train_distributed(job: str, out: Path, devices: int, nodes: int) -> None:
    """Write the job and run one worker for each device of each node.

    Raises `UserError` if a worker failed, `Stopped` if the run was told to stop.
    """
    (out / JOB).write_text(job)
    command = [*_launcher(devices, nodes), "-m", WORKER, str(out / JOB), str(out)]
    with deferred():
        process = subprocess.Popen(command)
        while (code := _wait(process)) is None:
            process.send_signal(signal.SIGTERM)  # torchrun passes it on; every rank saves and ends
    if (asked := asked_to_stop()) is not None:
        raise Stopped(asked)
    if code:
        raise UserError(
            f"training on {nodes} x {devices} devices ended with exit code {code}: a worker died, "
            "or failed for the reason it gives above."
        )


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Wait for the process; None, once, if a signal came meanwhile."""
    told = asked_to_stop()
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if asked_to_stop() != told:
                return None


def _launcher(devices: int, nodes: int) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(devices)]
    if nodes == 1:
        return [*torchrun, "--standalone"]
    job, given = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOB_NUM_NODES")
    if job is None:
        raise ConfigError(
            f"trainer.num_nodes={nodes} needs a SLURM allocation, or the step started under "
            "torchrun on every node: see docs/from_a_laptop_to_a_cluster.md."
        )
    if int(given or 1) < nodes:
        raise ConfigError(f"trainer.num_nodes={nodes}, but job {job} has {given or 1} node(s).")
    rendezvous = f"{socket.gethostname()}:{20_000 + int(job) % 20_000}"
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"),
        *("--kill-on-bad-exit=1", "--overlap", *torchrun, "--nnodes", str(nodes)),
        *("--rdzv_id", job, "--rdzv_backend", "c10d", "--rdzv_endpoint", rendezvous),
    ]
