"""One rank of a multi-device training run: `python -m icons_repro.training.worker JOB.json OUT`.

Started by torchrun, which `distributed.py` starts; never by hand. Where the step itself was started
as several processes, `join` makes one of them a rank.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.imports import uncollected
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.stop import STOPPED, Stopped, heed_signals, leave

with uncollected():
    from icons_repro.training.distributed import Place
    from icons_repro.training.failures import note_failure
    from icons_repro.training.fit import fit_here
    from icons_repro.training.job import FitJob

POLL = 0.2


def main() -> int:
    """Run the job of the command line as the rank that the environment names."""
    quiet_third_parties()
    heed_signals()
    job, out = FitJob.from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    world_size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    try:
        fit_here(job, out, world_size=world_size, rank=rank)
    except Stopped:
        return STOPPED
    except Exception as error:  # the log says all; what started us, the cause
        note_failure(out, rank, error)
        if not isinstance(error, UserError):
            traceback.print_exc()
        return 1
    return 0


def join(final: Path, ready: Callable[[], bool]) -> None:
    """Be one of the other ranks: wait for rank 0's job, and train with it.

    `final` is the step's folder, beside which its attempts are; `ready` says whether it is finished
    after all. What rank 0 fails at, torchrun or srun ends for all.
    """
    place = Place.here()
    while not ready():
        for out in sorted(final.parent.glob(f"{final.name}.*.part")):
            if place.job(out).is_file():
                job = FitJob.from_json(place.job(out).read_text())
                fit_here(job, out, world_size=place.size, rank=place.rank)
                return
        time.sleep(POLL)


if __name__ == "__main__":
    leave(main())
