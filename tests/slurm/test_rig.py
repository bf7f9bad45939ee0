"""The rig is a SLURM: what later tests rely on, asked with sbatch and srun alone."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest
from cluster import NODES, free_ports
from slurm_client import Slurm

pytestmark = pytest.mark.slurm

SAVING = "trap 'echo saved; exit 75' TERM; echo up; while :; do sleep 0.1; done"
"""A job that says `up`, and says `saved` when it is asked to stop."""


def test_a_step_runs_on_both_nodes(slurm: Slurm) -> None:
    said = slurm.srun("--nodes=2", "bash", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID")
    assert sorted(said) == ["n1 0", "n2 1"]


@pytest.mark.parametrize(
    ("command", "state", "exit_code"),
    [("true", "COMPLETED", "0:0"), ("exit 3", "FAILED", "3:0"), ("kill -9 $$", "FAILED", "0:9")],
)
def test_the_end_of_a_job_can_be_read_afterwards(
    slurm: Slurm, command: str, state: str, exit_code: str
) -> None:
    record = slurm.wait_for(slurm.sbatch(command), state)
    assert record["ExitCode"] == exit_code


def test_waiting_for_a_state_ends_when_the_job_has_ended_in_another(slurm: Slurm) -> None:
    job = slurm.sbatch("echo why; exit 3")
    with pytest.raises(AssertionError, match=r"(?s)is not COMPLETED.*FAILED.*why"):
        slurm.wait_for(job, "COMPLETED")


def test_a_drained_node_starts_no_job_until_it_is_resumed(slurm: Slurm) -> None:
    slurm.drain("n1")
    elsewhere = slurm.sbatch("echo $SLURMD_NODENAME")
    slurm.wait_for(elsewhere, "COMPLETED")
    assert slurm.output(elsewhere) == "n2\n"
    waiting = slurm.sbatch("true", "--nodelist=n1")
    time.sleep(2)
    assert slurm.state(waiting) == "PENDING"
    slurm.resume("n1")
    assert slurm.wait_for(waiting, "COMPLETED")["NodeList"] == "n1"


def test_a_job_on_a_failed_node_starts_again_on_the_other(slurm: Slurm) -> None:
    job = slurm.sbatch("echo on $SLURMD_NODENAME; sleep 60")
    slurm.wait_for_output(job, "on ")
    first = slurm.wait_for(job, "RUNNING")["NodeList"]
    (other,) = set(NODES) - {first}
    slurm.fail(first)
    assert slurm.wait_for_output(job, f"on {other}").count("on ") == 2


def test_a_job_over_its_time_ends_as_timeout(slurm: Slurm) -> None:
    job = slurm.sbatch("echo up; sleep 600", "--partition=short")
    slurm.wait_for_output(job, "up")
    assert slurm.show(job)["TimeLimit"] == "00:01:00"
    slurm.expire(job)
    assert slurm.wait_for(job, "TIMEOUT")["Reason"] == "TimeLimit"


def test_the_warning_before_a_time_limit_reaches_the_step(slurm: Slurm) -> None:
    step = "trap 'echo warned; exit 0' USR2; echo up; while :; do sleep 0.1; done"
    job = slurm.sbatch(f"srun bash -c {shlex.quote(step)}", "--signal=USR2@20", "--time=5")
    slurm.wait_for_output(job, "up")
    slurm.expire(job, seconds=60)
    slurm.wait_for_output(job, "warned")
    slurm.wait_for(job, "COMPLETED")


def test_a_requeued_job_is_told_to_stop_and_starts_again(slurm: Slurm) -> None:
    again = f'if [ "$SLURM_RESTART_COUNT" ]; then echo again; exit 0; fi; {SAVING}'
    job = slurm.sbatch(f"srun bash -c {shlex.quote(again)}")
    slurm.wait_for_output(job, "up")
    slurm.requeue(job)
    assert slurm.wait_for(job, "COMPLETED")["Restarts"] == "1"
    said = slurm.output(job).splitlines()
    assert [line for line in said if line in {"up", "saved", "again"}] == ["up", "saved", "again"]


def test_an_urgent_job_preempts_and_the_preempted_one_starts_again(slurm: Slurm) -> None:
    jobs = [slurm.sbatch("echo up; sleep 600", "--exclusive") for _ in NODES]
    for job in jobs:
        slurm.wait_for_output(job, "up")
    slurm.wait_for(slurm.sbatch("true", "--partition=urgent", "--exclusive"), "COMPLETED")
    assert sorted(slurm.show(job)["Restarts"] for job in jobs) == ["0", "1"]


def test_a_job_with_grace_that_exits_by_itself_is_not_requeued(slurm: Slurm) -> None:
    whole = ("--partition=graceful", "--nodes=2", "--exclusive")
    job = slurm.sbatch(f"srun bash -c {shlex.quote(SAVING)}", *whole)
    slurm.wait_for_output(job, "up\nup")
    slurm.wait_for(slurm.sbatch("true", "--partition=urgent", "--exclusive"), "COMPLETED")
    assert slurm.wait_for(job, "FAILED")["Restarts"] == "0"
    assert "saved" in slurm.output(job)


def test_afterok_waits_for_an_array_through_a_requeue(slurm: Slurm) -> None:
    task = 'if [ "$SLURM_RESTART_COUNT" ]; then exit 0; fi; echo up; sleep 600'
    array = slurm.sbatch(f'if [ $SLURM_ARRAY_TASK_ID = 1 ]; then {task}; fi; echo "done"', "-a0-1")
    after = slurm.sbatch("true", f"--dependency=afterok:{array}")
    slurm.wait_for(f"{array}_0", "COMPLETED")
    slurm.wait_for(f"{array}_1", "RUNNING")
    slurm.requeue(f"{array}_1")
    slurm.wait_for(f"{array}_1", "PENDING")
    assert slurm.state(after) == "PENDING"
    slurm.wait_for(f"{array}_1", "COMPLETED")
    slurm.wait_for(after, "COMPLETED")


def test_afterok_of_a_failed_job_cancels_only_if_asked(slurm: Slurm) -> None:
    failed = slurm.sbatch("sleep 3; exit 1")
    condition = f"--dependency=afterok:{failed}"
    cancelled = slurm.sbatch("true", condition, "--kill-on-invalid-dep=yes")
    stuck = slurm.sbatch("true", condition, "--kill-on-invalid-dep=no")
    slurm.wait_for(failed, "FAILED")
    assert slurm.wait_for(cancelled, "CANCELLED")["Reason"] == "DependencyNeverSatisfied"
    assert slurm.state(stuck) == "PENDING"


def test_two_nodes_reduce_over_gloo(slurm: Slurm) -> None:
    script = Path(__file__).with_name("all_reduce.py")
    port = free_ports(1)[0]
    job = slurm.sbatch(
        f"MASTER_ADDR=127.0.0.1 MASTER_PORT={port} srun {sys.executable} {script}",
        "--nodes=2",
        "--ntasks-per-node=1",
    )
    slurm.wait_for(job, "COMPLETED", timeout=240)
    assert sorted(slurm.output(job).splitlines()) == [
        "rank 0 of 2 on n1: 11",
        "rank 1 of 2 on n2: 11",
    ]
