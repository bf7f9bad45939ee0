"""What of this machine a process may use: a job or a container on it seldom has all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SHARED = Path("/dev/shm")
"""Where processes share memory: PyTorch's readers for batches, NCCL's ranks for their own."""
UNIFIED = "memory.max", "memory.current", "inactive_file"
VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
"""Files of a control group's limit and use, and what of its use are files read, given up first."""


def cores() -> int:
    """Return the cores that a scheduler's binding and a container's quota leave this process.

    `LOKY_MAX_CPU_COUNT` in the environment is a further bound.
    """
    from joblib import cpu_count

    return max(1, int(cpu_count()))


def heed_quota() -> None:
    """Let OpenMP take no more threads than a quota leaves; call it before torch is imported.

    It knows of bindings, not of quotas: a container of 4 cores on a machine of 64 ran 64 threads.
    """
    bound = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    if cores() < len(bound(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may have: the machine's, or a control group's limit.

    A group's limit is what SLURM's `--mem` and a container's are; whoever exceeds it is killed.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for limit, _ in _groups(root))])


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes of `memory` that nobody holds now."""
    import psutil

    free = psutil.virtual_memory().available
    return max(0, min([free, *(limit - used for limit, used in _groups(root))]))


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of this process's control group and of those around it, in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        number, kinds, path = line.split(":", 2)
        if number == "0":
            top, names = root / "sys/fs/cgroup", UNIFIED
        elif "memory" in kinds.split(","):
            top, names = root / "sys/fs/cgroup/memory", VERSION_1
        else:
            continue
        own = Path(path.lstrip("/"))
        for folder in (own, *own.parents):
            try:
                limit, used = ((top / folder / name).read_text().strip() for name in names[:2])
                kept = (top / folder / "memory.stat").read_text().split()
            except OSError:  # a container sees its own group as the top
                continue
            if limit != "max":
                files = dict(zip(kept[::2], kept[1::2], strict=True)).get(names[2], "0")
                yield int(limit), int(used) - int(files)
