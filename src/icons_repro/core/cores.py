"""How many processor cores this process may use, which are seldom all that the machine has."""

from __future__ import annotations


def cores() -> int:
    """Return the cores that a scheduler's binding and a container's quota leave this process.

    `LOKY_MAX_CPU_COUNT` in the environment is a further bound.
    """
    from joblib import cpu_count

    return max(1, int(cpu_count()))
