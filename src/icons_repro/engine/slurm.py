"""A SLURM cluster does the work: one job for each step, or chain of steps that ask for the same.

SLURM schedules: jobs wait for what they read by `--dependency=afterok`, several workers on one step
are an array, time limits and preemptions requeue. This process only submits and looks on; it may
leave, and the same command finds the jobs again.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit

from icons_repro.core.errors import ConfigError
from icons_repro.core.files import read_json, write_json
from icons_repro.core.invocation import relaunched
from icons_repro.core.step import SharedStep, Step
from icons_repro.core.stop import Stopped
from icons_repro.engine.cluster_job import ChainJob, ReportJob, WorkerJob
from icons_repro.engine.ledger import JobsLeftError, Ledger, State
from icons_repro.engine.logs import cause_in, describe, end_of, log_of
from icons_repro.engine.resources import Resources, Table, of_step
from icons_repro.engine.screen import Screen

if TYPE_CHECKING:
    from icons_repro.core.settings import ExecutorSettings

log = logging.getLogger(__name__)
ALIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STAGE_OUT"}
FORGET = 3
"""Looks at which SLURM must not know a job before it counts as gone."""


@dataclass(frozen=True)
class Chain:
    """Steps that one job does in order."""

    steps: list[Step]
    resources: Resources

    @property
    def shared(self) -> bool:
        """Whether several workers do it: then it is one step."""
        return self.resources.chunks > 1 and isinstance(self.steps[0], SharedStep)


@dataclass
class SlurmExecutor:
    """Submits what is missing, and shows what becomes of it."""

    settings: ExecutorSettings
    table: Table
    workers: int = 1
    _missed: dict[str, int] = field(default_factory=dict)

    def check(self, ledger: Ledger) -> None:
        """Raise `ConfigError` where there is no SLURM, or none that could do the work."""
        if not shutil.which("sbatch"):
            raise ConfigError("executor=slurm: there is no sbatch here; run it on a login node.")
        for row in {of_step(self.table, step) for step in ledger.needed.values()}:
            self._refuse_impossible(row)

    def _refuse_impossible(self, row: Resources) -> None:
        """Ask SLURM about a job of these resources, before a first one is queued."""
        asks = {f"--{key.replace('_', '-')}": value for key, value in self._asks(row).items()}
        options = [key if value is True else f"{key}={value}" for key, value in asks.items()]
        command = ("sbatch", "--test-only", "--wrap=true", *options)
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode:
            why = tried.stderr.strip().rpartition(": ")[-1]
            has = ", ".join(sorted(set(_ask(["sinfo", "--noheader", "--format=%R"]).split())))
            raise ConfigError(
                f"SLURM refuses {' '.join(options)}: {why}. Its partitions are {has}."
            )

    def _asks(self, row: Resources) -> dict[str, Any]:
        """Return options of sbatch by their long names; True is one without a value."""
        s = self.settings
        given = {
            "partition": s.partition,
            "account": s.account,
            "qos": s.qos,
            "nodes": row.nodes,
            "cpus_per_task": row.cpus,
            "gpus_per_node": row.gpus or None,
            "mem": row.memory_gb and f"{round(1024 * row.memory_gb)}M",
            "time": self._minutes(row),
            **{"requeue": True, "kill-on-invalid-dep": "yes", **s.more},
        }
        return {key: value for key, value in given.items() if value is not None}

    def _minutes(self, row: Resources) -> int:
        return max(1, round(60 * (row.hours or self.settings.hours)))

    def run(self, ledger: Ledger) -> None:
        """Submit, then look on until everything has ended; Ctrl-C leaves the jobs alone."""
        jobs = self._submit(ledger)
        ids = sorted(set(jobs.values()), key=int)
        log.info("%d jobs submitted: %s", len(ids), ", ".join(ids))
        leaving = f"{len(ids)} jobs go on; `scancel {' '.join(ids)}` ends them. The same command "
        leaving += "finds them again."
        if not self.settings.wait:
            self._report_later(ledger, ids)
            raise JobsLeftError(leaving)
        try:
            with Screen(ledger, max(1, len(ids))) as screen:
                while self._look(ledger, jobs):
                    screen.refresh()
                    time.sleep(self.settings.poll_seconds)
        except (KeyboardInterrupt, Stopped):
            log.warning("\n%s", leaving)
            raise

    # submitting

    def _submit(self, ledger: Ledger) -> dict[str, str]:
        """Return the id of the job that makes each step, submitting those that nobody makes."""
        jobs = self._already(ledger)
        for chain in chains(ledger, self.table, jobs):
            reads = [jobs.get(s.fingerprint) for step in chain.steps for s in step.inputs.values()]
            after = sorted({job for job in reads if job is not None}, key=int)
            job = self._submit_chain(ledger, chain, after)
            for step in chain.steps:
                jobs[step.fingerprint] = job
                said = end_of(log_of(ledger.cache, step))
                write_json(self._note(ledger, step), {"job": job, "step": step.name, "since": said})
        return jobs

    def _note(self, ledger: Ledger, step: Step) -> Path:
        return log_of(ledger.cache, step).with_suffix(".job.json")

    def _already(self, ledger: Ledger) -> dict[str, str]:
        """Return the jobs of an earlier command that are still in the queue."""
        noted = {fp: read_json(self._note(ledger, s)) for fp, s in ledger.needed.items()}
        found = {fp: str(note["job"]) for fp, note in noted.items() if isinstance(note, dict)}
        alive = {job for job, state in states(set(found.values())).items() if state in ALIVE}
        return {fp: job for fp, job in found.items() if job in alive}

    def _submit_chain(self, ledger: Ledger, chain: Chain, after: list[str]) -> str:
        files = [str(describe(ledger.cache, step)) for step in chain.steps]
        logs = [str(log_of(ledger.cache, step)) for step in chain.steps]
        row = chain.resources
        kind = WorkerJob if chain.shared else ChainJob
        work = kind(files, logs, str(ledger.cache.root), row.chunks, row.retries)
        executor = self._executor(ledger, chain.steps[-1].stage, row, after)
        if not chain.shared:
            return str(executor.submit(work).job_id)
        jobs = executor.map_array(work, list(range(row.chunks)))
        return str(jobs[0].job_id).split("_")[0]

    def _executor(
        self, ledger: Ledger, name: str, row: Resources, after: list[str], ok: str = "afterok"
    ) -> Any:
        """Return submitit's executor for one submission."""
        s = self.settings
        executor = submitit.AutoExecutor(
            ledger.cache.root / "jobs" / "%j",
            cluster="slurm",
            slurm_max_num_timeout=s.requeues,
            slurm_python=sys.executable,
        )
        waits = {"dependency": f"{ok}:{':'.join(after)}"} if after else {}
        executor.update_parameters(
            name=f"icons-{name}",
            timeout_min=self._minutes(row),
            tasks_per_node=1,
            stderr_to_stdout=True,
            slurm_array_parallelism=s.array_parallelism,
            slurm_signal_delay_s=s.signal_seconds,
            # since 22.05 a step of a job has one core unless it asks, too
            slurm_srun_args=["-N1", "-n1", *([f"--cpus-per-task={row.cpus}"] if row.cpus else [])],
            slurm_additional_parameters=self._asks(row) | waits,
        )
        return executor

    def _report_later(self, ledger: Ledger, ids: list[str]) -> None:
        """Let a last job write the results, since this process does not stay."""
        executor = self._executor(ledger, "report", Resources(hours=1.0), ids, ok="afterany")
        job = executor.submit(ReportJob(relaunched("executor.report_only=true")))
        log.info("job %s reports on all of it, in %s", job.job_id, job.paths.stdout)

    # looking on

    def _look(self, ledger: Ledger, jobs: Mapping[str, str]) -> bool:
        """Take in what has happened; whether anything is still to be waited for."""
        found = states(jobs[step.fingerprint] for step in ledger.open())
        for step in ledger.open():
            if ledger.state(step) is not State.blocked:  # by one before it
                self._take_in(step, jobs[step.fingerprint], found, ledger)
        return bool(ledger.open())

    def _take_in(self, step: Step, job: str, found: Mapping[str, str], ledger: Ledger) -> None:
        if ledger.cache.is_ready(step):
            ledger.start(step)
            ledger.finish(step)
            return
        state = found.get(job)
        begun = all(ledger.cache.is_ready(read) for read in step.inputs.values())
        if state == "RUNNING" and begun:
            ledger.start(step)
        if state in ALIVE:
            self._missed.pop(job, None)
            return
        # The file system of this node may show an artifact a little later than SLURM the end.
        self._missed[step.fingerprint] = self._missed.get(step.fingerprint, 0) + 1
        if self._missed[step.fingerprint] >= FORGET and begun:
            note, path = read_json(self._note(ledger, step)) or {}, log_of(ledger.cache, step)
            how = f"job {job} ended ({state or 'SLURM no longer knows it'})"
            ledger.fail(step, f"{cause_in(path, note.get('since', 0))}; {how}", path)


def chains(ledger: Ledger, table: Table, jobs: Mapping[str, str]) -> list[Chain]:
    """Cut the missing steps that no job makes yet into chains, in order of work.

    A step joins the job of the step before it if that is the only missing one it reads, the last
    one of its job, and asks for the same. What several workers do is a job of its own.
    """
    made: list[Chain] = []
    for step in ledger.needed.values():
        if step.fingerprint in jobs:
            continue
        row = of_step(table, step)
        missing = [s for s in step.inputs.values() if s.fingerprint in ledger.needed]
        before = [c for c in made if c.steps[-1] in missing]
        alone = isinstance(step, SharedStep) and row.chunks > 1
        if len(missing) == len(before) == 1 and not alone and _may_join(before[0], row):
            before[0].steps.append(step)
        else:
            made.append(Chain([step], row))
    return made


def _may_join(chain: Chain, row: Resources) -> bool:
    return chain.resources == row and not chain.shared


def states(ids: Iterable[str]) -> dict[str, str]:
    """Return the state of each job that SLURM knows; an array is alive while one task is."""
    wanted = set(ids)
    if not wanted:
        return {}
    shown = ["--noheader", "--array", "--states=all", "--format=%F|%T"]
    listed = _ask(["squeue", *shown, "--jobs", ",".join(sorted(wanted))])
    found: dict[str, set[str]] = {}
    for line in listed.splitlines():
        job, state = line.strip().split("|")
        found.setdefault(job, set()).add(state)
    return {job: _worst(of) for job, of in found.items()}


def _worst(found: set[str]) -> str:
    for state in ("RUNNING", *sorted(found & ALIVE), *sorted(found - {"COMPLETED"}), "COMPLETED"):
        if state in found:
            return state
    raise ValueError("no state")


def _ask(command: list[str]) -> str:
    """Return what a SLURM command says; nothing where it fails (it no longer knows any job)."""
    said = subprocess.run(command, capture_output=True, text=True)
    return said.stdout if said.returncode == 0 else ""
