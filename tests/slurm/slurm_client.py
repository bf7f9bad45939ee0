"""What a test says to a SLURM: submit, wait for a state, drain, requeue, let the time run out."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ENDED = frozenset(
    {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
)


@dataclass(frozen=True)
class Slurm:
    """The commands of one cluster. Jobs are named as SLURM does: `12`, or `15_1` in an array."""

    folder: Path
    """The cluster's own folder, where `sbatch` puts the output of jobs."""
    env: dict[str, str] = field(repr=False)
    """The environment that every command needs: SLURM_CONF and PATH."""

    def run(self, *command: str, timeout: float = 120) -> str:
        """A command's standard output. Raises `AssertionError` with what it said if it fails."""
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout, cwd=self.folder
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def sbatch(self, command: str, *options: str) -> str:
        """Submit a line of shell; its job id. Standard output and errors go to `output(job)`."""
        text = ["--parsable", "--output=%j.txt", "--open-mode=append", f"--wrap={command}"]
        return self.run("sbatch", *options, *text).strip()

    def srun(self, *command: str) -> list[str]:
        """The lines that a job prints while we wait for it."""
        return self.run("srun", *command).splitlines()

    def output(self, job: str) -> str:
        """What a job of `sbatch` has printed so far."""
        path = self.folder / f"{job}.txt"
        return path.read_text() if path.exists() else ""

    def show(self, job: str) -> dict[str, str]:
        """SLURM's record of a job: JobState, Reason, ExitCode, Restarts, NodeList and many more."""
        text = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()[0]
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self, job: str) -> str:
        """A job's state in one word."""
        return self.show(job)["JobState"]

    def wait_for(self, job: str, *states: str, timeout: float = 90) -> dict[str, str]:
        """The job's record once it is in one of the states.

        Raises `AssertionError` as soon as it has ended in another one, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while (record := self.show(job))["JobState"] not in states:
            late = time.monotonic() > deadline
            if late or record["JobState"] in ENDED:
                wanted = " or ".join(states)
                raise AssertionError(f"job {job} is not {wanted}: {record}\n{self.output(job)}")
            time.sleep(0.25)
        return record

    def wait_for_output(self, job: str, text: str, *files: Path, timeout: float = 90) -> str:
        """What a job has printed, once every file (by default `output(job)`) contains `text`.

        Raises `AssertionError` if the job ends without saying it, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            over = self.state(job) in ENDED or time.monotonic() > deadline  # before reading
            paths = files or (self.folder / f"{job}.txt",)
            said = [path.read_text() if path.exists() else "" for path in paths]
            if all(text in each for each in said):
                return "\n".join(said)
            assert not over, f"job {job} never said {text!r}: {self.show(job)}\n" + "\n".join(said)
            time.sleep(0.25)

    def cancel(self, job: str) -> None:
        """End a job: SIGTERM, and SIGKILL after KillWait."""
        self.run("scancel", job)

    def signal(self, job: str, name: str = "USR2") -> None:
        """Send a signal to every process of the job's steps, as SLURM does before a time limit."""
        self.run("scancel", f"--signal={name}", job)

    def requeue(self, job: str) -> None:
        """Stop a running job and let it start again from the beginning, with the same id."""
        self.run("scontrol", "requeue", job)

    def expire(self, job: str, seconds: int = 1) -> None:
        """Move a running job's end; SLURM's limits are whole minutes, and it looks every 30 s."""
        self.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}")

    def drain(self, node: str) -> None:
        """Let no new job start on a node; those that run go on."""
        self.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")

    def fail(self, node: str) -> None:
        """Declare a node dead: SLURM kills its jobs and requeues those that may be."""
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def resume(self, *nodes: str) -> None:
        """Take drained or failed nodes back, and wait until they can start jobs."""
        for node in nodes:
            if {"DRAIN", "DOWN"} & self.node_states(node):
                self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        deadline = time.monotonic() + 60
        while any({"DRAIN", "DOWN"} & self.node_states(node) for node in nodes):
            assert time.monotonic() < deadline, self.run("scontrol", "show", "nodes")
            time.sleep(0.25)

    def node_states(self, node: str) -> set[str]:
        """A node's base state and flags, e.g. `{"IDLE", "DRAIN"}`."""
        text = self.run("scontrol", "--oneliner", "show", "node", node)
        return set(dict(re.findall(r"(\S+?)=(\S*)", text))["State"].split("+"))

    def idle_nodes(self) -> set[str]:
        """The nodes that run nothing and take jobs; empty while the controller does not answer."""
        try:
            lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        except AssertionError:
            return set()
        return {line.split()[0] for line in lines if line.split()[1] == "idle"}

    def clear(self) -> None:
        """Cancel all jobs and take all nodes back: what the next test expects."""
        self.run("scancel", "--user=root")
        nodes = self.run("sinfo", "--noheader", "--Node", "--format=%N").split()
        self.resume(*sorted(set(nodes)))
        deadline = time.monotonic() + 60
        while self.run("squeue", "--noheader"):
            assert time.monotonic() < deadline, self.run("squeue")
            time.sleep(0.25)
