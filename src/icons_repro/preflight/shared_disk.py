"""Whether two nodes of the cluster, on the file system of the cache, exclude each other.

Work is shared by claims: files made by exclusive creation. Where that does not exclude, nothing is
lost (an artifact is still one writer's), but work is done twice, so it is worth knowing before.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections import Counter
from pathlib import Path

from icons_repro.core.claims import Heart, acquire
from icons_repro.core.files import read_json, write_json
from icons_repro.preflight.findings import Finding

CLAIMS = 200
NODES = 2
PATIENCE = 120.0
"""Seconds to wait for the two nodes; a busy cluster has them later."""
REMEDY = "several workers may compute the same thing; nothing is lost. Use another file system"


class Race:
    """What each node does: wait for the other, claim all there is, and wait again; picklable.

    A node that left before the other has tried everything would be dead, and its claims free.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self) -> None:
        """Write which claims this node got."""
        folder = Path(self.folder)
        owner = Heart.of(folder / "workers").owner
        write_json(folder / f"{owner.id}.here", owner.host)
        _wait_for_all(folder, "*.here")
        won = [n for n in range(CLAIMS) if acquire(folder / f"{n}.claim", owner) is None]
        write_json(folder / f"{owner.id}.won", won)
        _wait_for_all(folder, "*.won")
        Heart.stop()


def _wait_for_all(folder: Path, pattern: str, pause: float = 0.02) -> bool:
    """Wait until each node has written its file; False where patience ends first."""
    until = time.monotonic() + PATIENCE
    while len(list(folder.glob(pattern))) < NODES:
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True


def try_from_two_nodes(cache: Path, partition: str | None) -> list[Finding]:
    """Let two nodes race for claims in the cache's folder."""
    import submitit

    folder = cache / "preflight" / f"claims-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    executor = submitit.AutoExecutor(folder / "jobs", cluster="slurm")
    place = {"slurm_partition": partition} if partition else {}
    executor.update_parameters(
        name="icons-preflight", timeout_min=5, nodes=NODES, tasks_per_node=1, **place
    )
    executor.submit(Race(str(folder)))
    if _wait_for_all(folder, "*.won", pause=0.2):
        _wait_for_all(folder / "jobs", "*_result.pkl", pause=0.2)  # they look into it no more
    finding = judge(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return [finding]


def judge(folder: Path) -> Finding:
    """Say what the race in `folder` showed."""
    won = [read_json(path) for path in folder.glob("*.won")]
    if len(won) < NODES:
        text = f"two nodes were not to be had within {PATIENCE:.0f} s; not tried"
        return Finding("warning", "claims", text, "run preflight again when the cluster is free")
    counts = Counter(json.dumps(n) for numbers in won for n in numbers or [])
    twice = sum(count > 1 for count in counts.values())
    if twice or len(counts) < CLAIMS:
        return Finding("warning", "claims", f"two nodes both got {twice} of {CLAIMS}", REMEDY)
    return Finding("ok", "claims", f"two nodes raced for {CLAIMS}: each was one's")
