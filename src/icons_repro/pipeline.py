"""From configs to results: one run or a whole sweep is one graph, then a report on each run."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icons_repro.config.checks import typed
from icons_repro.config.run import USED_DEVICES, RunConfig
from icons_repro.config.trees import yaml_of
from icons_repro.core.cache import Cache
from icons_repro.core.claims import Heart
from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.home import HOME, settle
from icons_repro.core.integrity import MANIFEST
from icons_repro.core.machine import heed_quota
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.sockets import keep_sockets_short
from icons_repro.core.step import Step, ordered
from icons_repro.core.stop import heed_signals
from icons_repro.data.image_looks import ImageLooks
from icons_repro.engine.executors import Executor, choose_executor, resolved
from icons_repro.engine.inline import OnMetrics
from icons_repro.engine.ledger import Failure, JobsLeftError, Ledger, State
from icons_repro.engine.resources import check_table
from icons_repro.experiment import Experiment
from icons_repro.tracking import check_loggers
from icons_repro.training.stage import check_batches

log = logging.getLogger(__name__)
PRELOAD = ("icons_repro.preload",)
PROBE = 2**20
"""Bytes that the cache must take before work starts."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep, or the only one."""

    settings: RunConfig
    text: str
    """The composed config, for the run's folder."""

    @classmethod
    def of(cls, config: Any) -> Job:
        """Check a composed config. Raises `ConfigError` naming the key."""
        return cls(typed(config), yaml_of(config))


def run(job: Job) -> float | None:
    """Run, or with `plan=true` only plan, one experiment; return its relative performance."""
    (found,) = run_all([job])
    if isinstance(found, UserError):
        raise found
    return found


def look_ahead(settings: RunConfig) -> None:
    """Print what preflight finds. Raises `UserError` if the run would fail."""
    from icons_repro.preflight.findings import print_findings, would_fail
    from icons_repro.preflight.run import preflight

    findings = preflight(settings, Cache(Path(settings.paths.cache)))
    print_findings(findings)
    if would_fail(findings):
        raise UserError("the run would fail; the problems and remedies are above.")


Outcome = float | None | UserError
"""A run's relative performance, None where it has none, or why it failed."""


def run_all(jobs: Sequence[Job]) -> list[Outcome]:
    """Compute the union of all runs' steps, then report on each run, in order.

    With `plan=true` only say what would run; with the stage `preflight`, first what would stop it.
    """
    try:
        return _run_all(jobs)
    finally:
        Heart.stop()


def _run_all(jobs: Sequence[Job]) -> list[Outcome]:
    from icons_repro.preflight.plan import plan_runs
    from icons_repro.report.reporter import Reporter

    quiet_third_parties()
    heed_signals()
    first = jobs[0].settings
    keep_sockets_short()
    home = Path(first.paths.cache) / HOME
    if settle(home):
        log.info("home cannot be written: what libraries keep there is in %s", home)
    check_loggers(first.logger)
    if first.plan:
        plan_runs(_experiments(jobs, Cache(Path(first.paths.cache), first.verify)))
        return [None] * len(jobs)
    if "preflight" in first.stages:
        look_ahead(first)
        if first.stages == ["preflight"]:
            return [None] * len(jobs)
    if threads := first.trainer.threads:  # before torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    heed_quota()
    cache = one_cache(jobs)
    experiments = _experiments(jobs, cache)
    goals = [goal for e in experiments for goal in e.goals()]
    if first.verify:
        verify(goals, cache)
    ledger = Ledger(goals, cache)
    check_batches(ledger.needed.values())
    cache.put_damaged_aside(ledger.needed.values())
    sweep = sweep_of(jobs)
    reporters = [
        Reporter(e, job.text, ledger, sweep) for e, job in zip(experiments, jobs, strict=True)
    ]
    live = reporters[0] if len(jobs) == 1 else None
    executor = executor_of(first, live.on_metrics if live else None)
    executor.check(ledger)
    early = EarlyReports(reporters if live is None else [], ledger)
    ledger.on_finish = early
    try:
        if ledger.needed:
            executor.run(ledger)
    except JobsLeftError as left:
        log.info("%s", left)
        return [None] * len(jobs)
    else:
        return [
            early.told[place] if place in early.told else _report(reporter, ledger, bool(live))
            for place, reporter in enumerate(reporters)
        ]
    finally:
        for reporter in reporters:
            reporter.close(failed=bool(ledger.failures))


def sweep_of(jobs: Sequence[Job]) -> str:
    """Name a sweep by its runs, the same whenever it is given; a single run is none."""
    if len(jobs) < 2:
        return ""
    runs = "\n".join(sorted(Path(job.settings.paths.run).name for job in jobs))
    return f"sweep-{hashlib.blake2b(runs.encode(), digest_size=4).hexdigest()}"


def _experiments(jobs: Sequence[Job], cache: Cache) -> list[Experiment]:
    looks = ImageLooks(cache.root)
    return [Experiment(job.settings, cache, looks) for job in jobs]


def verify(goals: Sequence[Step], cache: Cache) -> None:
    """Read all finished artifacts behind the goals; a damaged one is named, and then missing."""
    finished = [step for step in ordered(goals) if (cache.path(step) / MANIFEST).is_file()]
    log.info("verifying %d finished steps ...", len(finished))
    for step in finished:
        cache.is_ready(step)


def one_cache(jobs: Sequence[Job]) -> Cache:
    """Return the cache that all runs share. Raises `ConfigError` if they name several."""
    roots = {job.settings.paths.cache for job in jobs}
    if len(roots) > 1:
        raise ConfigError(f"the runs of a sweep share one cache; these name {sorted(roots)}.")
    root = Path(roots.pop())
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
    except OSError as error:
        raise ConfigError(
            f"{root} cannot be written: {error.strerror}. Set ICONS_OUTPUT or paths.output."
        ) from error
    return Cache(root, verify=jobs[0].settings.verify)


def executor_of(settings: RunConfig, on_metrics: OnMetrics | None) -> Executor:
    """Return the executor that a config asks for, with what each kind of work needs filled in."""
    check_table(settings.resources, USED_DEVICES)
    trainer = settings.trainer
    devices = {
        name: trainer.devices if many else int(many is not None)
        for name, many in USED_DEVICES.items()
    }
    table = resolved(settings.resources, devices, trainer.device == "cuda", trainer.num_nodes)
    return choose_executor(settings.executor, table, settings.workers, on_metrics, PRELOAD)


@dataclass
class EarlyReports:
    """Reports on the runs of a sweep as they are finished, while the others go on."""

    reporters: Sequence[Any]
    ledger: Ledger
    told: dict[int, Outcome] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)

    def __call__(self) -> None:
        """Report on what has become finished.

        What goes wrong here must not stop the others' work: the last pass meets it again.
        """
        for place, reporter in enumerate(self.reporters):
            goals = reporter.experiment.goals()
            if place in self.tried or any(self.ledger.state(g) is not State.done for g in goals):
                continue
            self.tried.add(place)
            try:
                self.told[place] = _report(reporter, self.ledger, alone=False)
            except Exception as error:
                log.warning("a run could not be reported on yet: %s", error)


def _report(reporter: Any, ledger: Ledger, alone: bool) -> Outcome:
    """Write one run's results and page; a run that failed says why instead."""
    goals = reporter.experiment.goals()
    causes = failures_of(goals, ledger)
    if causes:
        cause = "\n".join(_say(failure) for failure in causes)
        reporter.failed(cause)
        return UserError(cause)
    missing = sum(ledger.state(step) is not State.done for step in ordered(goals))
    if missing:
        return UserError(f"{missing} of its steps are not computed yet")
    try:
        result: float | None = reporter.finish(show=alone)
    except UserError as error:
        return error
    finally:
        reporter.close(failed=False)  # one run of a logger at a time
    return result


def failures_of(goals: Sequence[Step], ledger: Ledger) -> list[Failure]:
    """Return the failures that keep these goals from being there."""
    mine = {step.fingerprint for step in ordered(goals)}
    unmade = any(ledger.state(goal) is not State.done for goal in goals)
    return [f for f in ledger.failures if f.step.fingerprint in mine] if unmade else []


def _say(failure: Failure) -> str:
    more = f"\n  log: {failure.log}" if failure.log else ""
    return f"{failure.step.name}: {failure.cause}{more}"
