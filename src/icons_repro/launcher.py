"""Hydra's side of the engine: the entry point, and `-m` as one graph.

Hydra composes every job of a sweep and hands all of them to its launcher. Ours does not run them
one after the other: it takes the union of their steps and works that off.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from icons_repro.config.place import only_looks
from icons_repro.config.register import register
from icons_repro.config.trees import explain_override
from icons_repro.core.errors import UserError
from icons_repro.core.plugins import CONF
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.stop import Stopped
from icons_repro.pipeline import Job, run, run_all
from icons_repro.sweep import close_sweep

log = logging.getLogger(__name__)
PLACES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EIO),
}
"""What a place, and not a mistake of ours, is refused for."""
REMEDY = (
    "If it is an output, free its disk or set ICONS_OUTPUT to a folder that can be written; "
    "what is finished is kept."
)


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> Sequence[JobReturn]:
    """Compose all jobs, compute their union, and print the sweep's end.

    Each job returns its relative performance, or raises why it failed.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    quiet_third_parties()  # a selector may import what talks while it is imported
    composed = [
        compose_job(context, config, list(overrides), first + i)
        for i, overrides in enumerate(job_overrides)
    ]
    jobs = [Job.of(one) for one in composed]
    outcomes = run_all(jobs)
    close_sweep(jobs, outcomes)
    returns = []
    for overrides, one, outcome in zip(job_overrides, composed, outcomes, strict=True):
        made = JobReturn(overrides=list(overrides), cfg=one)
        failed = isinstance(outcome, UserError)
        made.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        made.return_value = outcome
        returns.append(made)
    return returns


def compose_job(
    context: HydraContext, config: DictConfig, overrides: list[str], number: int
) -> DictConfig:
    """Return the resolved config of one job of a sweep."""
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    HydraConfig.instance().set_config(job)
    with open_dict(job):
        del job["hydra"]
    OmegaConf.resolve(job)
    return job


class _Passing(BaseException):
    """An error on its way through Hydra, which would print all overrides before it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _run_one(config: DictConfig) -> float | None:
    try:
        return run(Job.of(config))
    except Exception as error:
        raise _Passing(error) from error
    finally:
        if only_looks(config):
            _leave_no_folder(HydraConfig.get().runtime.output_dir, config.paths.output)


def _leave_no_folder(folder: str, output: str) -> None:
    """Remove the run's folder that Hydra has made, and those above it, if nothing is in them."""
    above = Path(output).absolute()
    place = Path(folder)
    with suppress(OSError):  # not empty, and so a run's
        while place != above and place.is_relative_to(above):
            place.rmdir()
            place = place.parent


def _run_job() -> None:
    try:
        _run_one()
        return
    except _Passing as passing:
        error = passing.error
    raise error  # out here, where its causes stay its own


def main() -> None:
    """Run the command line: `run.py`, `python -m icons_repro` and `icons-repro` are all this.

    Errors that a person can act on become one clear message.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    register()
    logging.raiseExceptions = False  # a full disk is said once, not for each line of the log
    try:
        _run_job()
    except UserError as error:
        sys.exit(f"\nError: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        if ours := _ours(error):  # raised while the run's folder was named
            sys.exit(f"\nError: {ours}")
        sys.exit(f"\nError: {explain_override(str(error), _default_config())}")
    except OSError as error:
        if error.errno not in PLACES:
            raise
        sys.exit(f"\nError: {error.filename or 'the output'}: {error.strerror}. {REMEDY}")
    except (KeyboardInterrupt, Stopped) as stopped:
        number = stopped.number if isinstance(stopped, Stopped) else 2
        again = "What is finished is kept; the same command goes on from there."
        sys.stderr.write(f"\nStopped. {again}\n")
        sys.exit(128 + number)


def _ours(error: BaseException) -> UserError | None:
    """Return the error of ours that a library has wrapped into its own, if it has."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, UserError):
        inner = inner.__cause__ or inner.__context__
    return inner


def _default_config() -> Any:
    """Return the config without any override, to look for the key that was meant."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config")
