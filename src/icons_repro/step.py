"""Make one step in this process: `python -m icons_repro.step STEP.json --cache FOLDER`.

The engine writes such files and starts such processes; on a cluster, or in a pod, a person may.
Whatever the step reads must be finished; with `--all` it is made too. Exit code 0: it is there;
3: other workers have the rest of it; 75: stopped by a signal, run it again and it goes on; 1: it
failed, for the reason on the last line.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from icons_repro.core.build import Options, build, obtain
from icons_repro.core.cache import Cache
from icons_repro.core.claims import Heart
from icons_repro.core.errors import UserError
from icons_repro.core.faults import in_one_line
from icons_repro.core.home import HOME, settle
from icons_repro.core.machine import heed_quota
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.step import Step
from icons_repro.core.step_json import from_json
from icons_repro.core.stop import STOPPED, Stopped, heed_signals, leave

LEFT_TO_OTHERS = 3


def make(step: Step, cache: Cache, options: Options, everything: bool = False) -> int:
    """Make the step, say on stderr why not, and return the exit code.

    `everything`: make what it reads, too, where that is missing.
    """
    quiet_third_parties()
    settle(cache.root / HOME)
    heed_quota()
    heed_signals()
    try:
        if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))):
            step.join(cache)  # started under torchrun or srun: rank 0 makes the step
            return 0
        for upstream in step.inputs.values():
            if everything:
                obtain(upstream, cache, options)
            elif not cache.is_ready(upstream) and not cache.is_ready(step):
                raise UserError(f"{step.name} reads {upstream.name}, which is not finished")
        return 0 if build(step, cache, options) else LEFT_TO_OTHERS
    except Stopped as stopped:
        _say(stopped)
        return STOPPED
    except UserError as error:
        _say(f"Error: {error}")
        return 1
    except Exception as error:  # the log says all, its last line the cause
        traceback.print_exc()
        _say(f"Error: {in_one_line(error, step)}")
        return 1
    finally:
        Heart.stop()


def _say(words: object) -> None:
    sys.stderr.write(f"{words}\n")


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and make the step that it names."""
    parser = argparse.ArgumentParser(prog="python -m icons_repro.step", description=__doc__)
    parser.add_argument("step", type=Path, help="JSON of a step")
    parser.add_argument("--cache", type=Path, required=True, help="the cache's root folder")
    parser.add_argument("--chunks", type=int, default=1, help="parts of work that can be shared")
    parser.add_argument("--leave", action="store_true", help="leave parts that others hold to them")
    parser.add_argument("--all", action="store_true", help="make what it reads, too")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        step = from_json(given.step.read_text())
    except (OSError, UserError) as error:
        _say(f"Error: {given.step}: {error}")
        return 1
    return make(step, Cache(given.cache), Options(given.chunks, not given.leave), given.all)


if __name__ == "__main__":
    leave(main())
