"""Functions that the tests send through submitit; imported by name where the job runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from submitit.helpers import DelayedSubmission

HERE = Path(__file__).parent


def double(number: int) -> int:
    return 2 * number


def leave(code: int) -> None:
    sys.exit(code)


def restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


class Launcher:
    """One torchrun a node; on SLURM's warning the ranks stop by themselves and we wait for them."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self) -> int:
        if restarts():
            return restarts()
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1"]
        command += [f"--nnodes={os.environ['SLURM_NNODES']}", f"--master-port={self.port}"]
        command += [f"--node-rank={os.environ['SLURM_NODEID']}", "--master-addr=127.0.0.1"]
        self.child = subprocess.Popen(
            [*command, str(HERE / "stopping_loop.py"), "600"],
            # SLURM signals torchrun too, which would die of it; its ranks set a handler again.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        if self.child.wait() != 0:
            raise RuntimeError("training failed")
        time.sleep(600)  # the ranks stopped when asked; the requeue is about to end this process
        return 0

    def checkpoint(self) -> DelayedSubmission:
        # Not `child.wait()`: the interrupted call may hold Popen's lock.
        os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Launcher(self.port))
