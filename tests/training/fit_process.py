"""A training in a process of its own, to be told to stop or killed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from forked import Forked, forked

from icons_repro.training.job import FitJob

RUN_JOB = """
import sys
from pathlib import Path
from icons_repro.core.stop import STOPPED, Stopped, heed_signals
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob
heed_signals()
try:
    fit(FitJob.from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(STOPPED)
"""


def forked_fit(job: FitJob, out: Path) -> AbstractContextManager[Forked]:
    """Train as `job` says into `out`, in a process and a session of its own."""
    file, script = out.with_suffix(".json"), out.with_suffix(".py")
    file.write_text(job.to_json())
    script.write_text(RUN_JOB)
    return forked([str(file), str(out)], out.parent, os.environ, script=script)
