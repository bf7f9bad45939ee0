"""One rank of a gloo all-reduce over the tasks of a job step: `srun -N2 python all_reduce.py`.

Rank and size are SLURM's; rank 0 listens on MASTER_ADDR and MASTER_PORT, set by the batch script.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist


def main() -> None:
    rank, size = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(minutes=3))
    total = torch.tensor([10.0**rank])  # the sum's digits say which ranks took part, and how often
    dist.all_reduce(total)
    dist.destroy_process_group()
    line = f"rank {rank} of {size} on {os.environ['SLURMD_NODENAME']}: {total.item():.0f}\n"
    sys.stdout.write(line)  # one write: two ranks share the file


if __name__ == "__main__":
    main()
