"""One rank of a multi-device training run: `python -m icons_repro.training.worker JOB.json OUT`.

Started by torchrun, which `distributed.py` starts; never by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.stop import STOPPED, Stopped, heed_signals
from icons_repro.training.fit import FitJob, fit_here


def main() -> int:
    """Run the job of the command line as the rank that the environment names."""
    heed_signals()
    job = FitJob.from_json(Path(sys.argv[1]).read_text())
    world_size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    try:
        fit_here(job, Path(sys.argv[2]), world_size=world_size, rank=rank)
    except Stopped:
        return STOPPED
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
