"""What the executor relies on in submitit and SLURM together, asked of the real two."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import submitit
import submitit_jobs
from cluster import free_ports
from slurm_client import Slurm
from submitit_jobs import Launcher, double, leave

pytestmark = pytest.mark.slurm


@pytest.fixture
def executor(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> submitit.AutoExecutor:
    monkeypatch.setenv("PYTHONPATH", str(Path(submitit_jobs.__file__).parent), prepend=":")
    executor = submitit.AutoExecutor(tmp_path / "%j", cluster="slurm", slurm_max_num_timeout=2)
    executor.update_parameters(timeout_min=5, slurm_signal_delay_s=60, stderr_to_stdout=True)
    return executor


def outcome(job: submitit.Job) -> object:
    """The stored result; submitit's own `result()` asks sacct, which this cluster does not have."""
    return submitit.core.utils.pickle_load(job.paths.result_pickle)[1]


def test_one_submission_makes_an_array_that_others_can_wait_for(
    slurm: Slurm, executor: submitit.AutoExecutor
) -> None:
    executor.update_parameters(slurm_array_parallelism=2)
    jobs = executor.map_array(double, [1, 2, 3])
    array = jobs[0].job_id.split("_")[0]
    assert [job.job_id for job in jobs] == [f"{array}_{task}" for task in range(3)]
    executor.update_parameters(slurm_dependency=f"afterok:{array}")
    slurm.wait_for(executor.submit(double, 4).job_id, "COMPLETED")
    assert [outcome(job) for job in jobs] == [2, 4, 6]


def test_an_exit_leaves_a_state_but_no_result(
    slurm: Slurm, executor: submitit.AutoExecutor
) -> None:
    job = executor.submit(leave, 3)
    assert slurm.wait_for(job.job_id, "FAILED")["ExitCode"] == "3:0"
    assert not job.paths.result_pickle.exists()


def test_an_array_of_one_has_a_plain_id(slurm: Slurm, executor: submitit.AutoExecutor) -> None:
    (job,) = executor.map_array(double, [1])
    assert job.job_id.isdigit()
    slurm.wait_for(job.job_id, "COMPLETED")


def test_a_warned_two_node_job_stops_at_one_step_and_starts_again(
    slurm: Slurm, executor: submitit.AutoExecutor
) -> None:
    executor.update_parameters(nodes=2, tasks_per_node=1)
    job = executor.submit(Launcher(free_ports(1)[0]))
    logs = [job.task(rank).paths.stdout for rank in range(2)]
    slurm.wait_for_output(job.job_id, "training", *logs, timeout=240)
    slurm.signal(job.job_id, "USR2")
    assert slurm.wait_for(job.job_id, "COMPLETED", timeout=120)["Restarts"] == "1"
    stops = [re.findall(r"stopped at step (\d+)", log.read_text()) for log in logs]
    assert stops[0] == stops[1] != []
    assert [outcome(job.task(rank)) for rank in range(2)] == [1, 1]
