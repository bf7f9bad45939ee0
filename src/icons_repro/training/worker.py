"""One rank of a multi-device training run: `python -m icons_repro.training.worker JOB.json OUT`.

Started by torchrun, which `fit` starts; never by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from icons_repro.training.fit import FitJob, fit_here


def main() -> None:
    """Run the job of the command line as the rank that the environment names."""
    job = FitJob.from_json(Path(sys.argv[1]).read_text())
    world_size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    fit_here(job, Path(sys.argv[2]), world_size=world_size, rank=rank)


if __name__ == "__main__":
    main()
