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
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.machine import cores
from icons_repro.core.stop import Stopped, asked_to_stop, deferred
from icons_repro.training.failures import RankError, take_failure

WORKER = "icons_repro.training.worker"
JOB = "job.json"
POLL = 0.2
SAVE_SECONDS = 120
"""What ranks that are told to stop have for their step and the save; torchrun then kills them."""


@dataclass(frozen=True)
class Place:
    """Which process this is among those that torchrun or srun started together."""

    rank: int = 0
    size: int = 1
    launch: str = ""
    """Names the launch, the same in all of its processes."""

    @classmethod
    def here(cls) -> Place:
        """Read it from the environment; a process alone is rank 0 of 1."""
        e = os.environ
        if "TORCHELASTIC_RUN_ID" in e:
            return cls(int(e["RANK"]), int(e["WORLD_SIZE"]), e["TORCHELASTIC_RUN_ID"])
        if "SLURM_STEP_ID" in e and "SLURM_PROCID" in e:
            launch = f"{e['SLURM_JOB_ID']}.{e['SLURM_STEP_ID']}"
            return cls(int(e["SLURM_PROCID"]), int(e["SLURM_STEP_NUM_TASKS"]), launch)
        return cls()

    def job(self, out: Path) -> Path:
        """Return the file by which rank 0 tells the others where and what to train."""
        return out / f"job-{self.launch}.json"


def local_rank() -> int:
    """Return this process's number among those of its node."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def train_distributed(job: str, out: Path, devices: int, nodes: int) -> None:
    """Write the job and run one worker for each device of each node.

    Raises what a worker failed of (`UserError`, `RankError`), or `UserError` if one died without a
    word; `Stopped` if the run was told to stop.
    """
    take_failure(out)  # an earlier attempt's
    (out / JOB).write_text(job)
    command = [*_launcher(devices, nodes), "-m", WORKER, str(out / JOB), str(out)]
    with deferred():
        # A cluster signals every process; the ranks heed it, torchrun would only die of it.
        patient = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_SECONDS)}
        environment = {**os.environ, **_ranks_have(devices), **patient}
        process = subprocess.Popen(command, preexec_fn=_ignore_user_signals, env=environment)
        code = _wait(process)
    if not code:
        return
    failure, asked = take_failure(out), asked_to_stop()
    lost = isinstance(failure, RankError) and failure.lost
    if failure is not None and not (lost and asked is not None):
        raise failure
    if asked is not None:
        raise Stopped(asked)
    raise UserError(
        f"training on {nodes} x {devices} devices ended with exit code {code}: a worker died "
        "(killed, perhaps for want of memory)."
    )


def _ranks_have(devices: int) -> dict[str, str]:
    """Return each rank's share of the threads that this process may have, and of C++'s notices."""
    share = max(1, cores() // devices)
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2" is for nested loops
    threads = min(share, int(given or share))
    level = os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")
    return {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": level}


def _ignore_user_signals() -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for torchrun; pass the first signal on as SIGTERM, at which every rank saves and ends.

    Once: at a second one torchrun would wait for nobody.
    """
    told = False
    while True:
        try:
            return process.wait(timeout=POLL)
        except subprocess.TimeoutExpired:
            if asked_to_stop() is not None and not told:
                told = True
                process.send_signal(signal.SIGTERM)


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
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")  # srun does not take it from there
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"),
        *(["--cpus-per-task", cpus] if cpus else []),
        *("--kill-on-bad-exit=1", "--overlap", *torchrun, "--nnodes", str(nodes)),
        *("--rdzv_id", job, "--rdzv_backend", "c10d", "--rdzv_endpoint", rendezvous),
    ]
