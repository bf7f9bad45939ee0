"""A training loop's skeleton: ranks that agree, step by step, whether they were asked to stop.

Started by torchrun on each node. SLURM signals all ranks, but not between the same two steps, so
the wish is reduced with the step. They end with 0 then, since torchrun makes 1 of any other code.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist


def main(seconds: float) -> None:
    asked = torch.zeros(1)
    for name in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(name, lambda number, frame: asked.fill_(1))
    dist.init_process_group("gloo", timeout=timedelta(minutes=3))
    deadline, step = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        anyone = asked.clone()
        dist.all_reduce(anyone)
        if step == 0:
            sys.stdout.write("training\n")
            sys.stdout.flush()
        if anyone.item():
            sys.stdout.write(f"stopped at step {step}\n")
            sys.stdout.flush()
            break
        step += 1
        time.sleep(0.05)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(float(sys.argv[1]))
