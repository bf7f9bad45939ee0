"""`executor=slurm` on a real SLURM: jobs for steps, arrays for parts, every way to end badly."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from slurm_client import Slurm
from steps import Counting, Number, Shared, calls

from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import ExecutorSettings
from icons_repro.core.step import Step
from icons_repro.engine.ledger import JobsLeftError, Ledger, State
from icons_repro.engine.resources import Resources
from icons_repro.engine.slurm import SlurmExecutor, chains
from icons_repro.preflight.shared_disk import try_from_two_nodes

pytestmark = pytest.mark.slurm
TABLE = {"prepare": Resources(cpus=1, gpus=0), "extract": Resources(cpus=1, gpus=0, chunks=4)}


def executor(**settings: object) -> SlurmExecutor:
    given = {"poll_seconds": 0.5, "hours": 0.1, "signal_seconds": 10, **settings}
    return SlurmExecutor(ExecutorSettings(kind="slurm", **given), TABLE)  # type: ignore[arg-type]


def diamond(**bottom: object) -> list[Step]:
    root = Number(value=1)
    left = Number(value=10, reads=(root,))
    right = Number(value=20, reads=(root,), **bottom)  # type: ignore[arg-type]
    return [Number(value=100, reads=(left,)), Number(value=200, reads=(right,))]


def job_of(cache: Cache, step: Step) -> str:
    """Wait until the step has been submitted, and return its job's id."""
    note = cache.root / "logs" / step.stage / f"{step.fingerprint}.job.json"
    until = time.monotonic() + 60
    while not note.exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    return str(json.loads(note.read_text())["job"])


def in_background(ledger: Ledger, **settings: object) -> threading.Thread:
    thread = threading.Thread(target=executor(**settings).run, args=(ledger,))
    thread.start()
    return thread


def test_steps_that_follow_one_another_share_a_job(tmp_path: Path) -> None:
    ledger = Ledger(diamond(), Cache(tmp_path))
    found = [[step.label for step in chain.steps] for chain in chains(ledger, TABLE, {})]
    assert found == [["1", "10", "100"], ["20", "200"]]
    shared = Ledger([Number(value=5, reads=(Shared(),))], Cache(tmp_path))
    assert [len(chain.steps) for chain in chains(shared, TABLE, {})] == [1, 1]


def test_a_graph_is_computed_and_the_same_again_submits_nothing(
    slurm: Slurm, tmp_path: Path
) -> None:
    ledger = Ledger(diamond(), Cache(tmp_path))
    executor().run(ledger)
    assert not ledger.failures
    assert sorted(calls(tmp_path)) == [f"number-{i}" for i in (1, 10, 100, 20, 200)]
    scripts = list(tmp_path.glob("jobs/**/*.sh"))
    assert scripts
    for script in scripts:
        (step,) = (line for line in script.read_text().splitlines() if line.startswith("srun "))
        assert " --cpus-per-task=1 " in step  # a step does not inherit its job's
    assert not Ledger(diamond(), Cache(tmp_path)).needed


def test_an_array_of_workers_fills_one_shared_step(slurm: Slurm, tmp_path: Path) -> None:
    goal = Number(value=7, reads=())
    shared = Shared(seconds=1.0)
    ledger = Ledger([shared, goal], Cache(tmp_path))
    executor().run(ledger)
    assert not ledger.failures
    rows = Cache(tmp_path).path(shared) / "rows"
    assert {p.name: p.read_text() for p in rows.iterdir()} == {
        str(i): str(i * i) for i in range(12)
    }
    assert calls(tmp_path).count("finish") == 1
    job = job_of(ledger.cache, shared)
    tasks = slurm.run("squeue", "--noheader", "--array", "--states=all", "--jobs", job)
    assert len(tasks.splitlines()) == 4


def test_a_failed_step_fails_its_job_and_what_waits_for_it_is_cancelled(
    slurm: Slurm, tmp_path: Path
) -> None:
    goals = diamond(fails="user")
    ledger = Ledger(goals, Cache(tmp_path))
    executor().run(ledger)
    assert ledger.state(goals[0]) is State.done
    assert ledger.state(goals[1]) is State.blocked
    (failure,) = ledger.failures
    assert failure.cause.startswith("number 20 is bad; choose another")
    right = goals[1].inputs["reads_1"]
    assert slurm.state(job_of(ledger.cache, right)) == "FAILED"


def test_a_process_that_was_killed_is_tried_again_in_its_job(slurm: Slurm, tmp_path: Path) -> None:
    ledger = Ledger(diamond(fails="killed-once"), Cache(tmp_path))
    executor().run(ledger)
    assert not ledger.failures
    assert calls(tmp_path).count("number-20") == 2


def test_a_cancelled_job_is_a_failure_by_name_and_the_rest_goes_on(
    slurm: Slurm, tmp_path: Path
) -> None:
    slow, other = Number(value=1, seconds=60), Number(value=2)
    ledger = Ledger([slow, other], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, slow)
    slurm.wait_for(job, "RUNNING")
    slurm.cancel(job)
    thread.join(90)
    assert ledger.state(other) is State.done
    assert "CANCELLED" in ledger.failures[0].cause


def test_a_requeued_job_finishes(slurm: Slurm, tmp_path: Path) -> None:
    slow = Number(value=1, seconds=6)
    ledger = Ledger([slow], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, slow)
    slurm.wait_for(job, "RUNNING")
    while "number-1" not in calls(tmp_path):
        time.sleep(0.1)
    slurm.requeue(job)
    thread.join(150)
    assert ledger.state(slow) is State.done
    assert calls(tmp_path) == ["number-1", "number-1"]


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    slow = Number(value=1, seconds=5)
    ledger = Ledger([slow], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, slow)
    slurm.wait_for(job, "RUNNING")
    while "number-1" not in calls(tmp_path):
        time.sleep(0.1)
    slurm.signal(job, "USR2")  # what SLURM sends before the limit
    thread.join(150)
    assert ledger.state(slow) is State.done
    assert calls(tmp_path) == ["number-1", "number-1"]


def test_a_job_at_a_real_time_limit_saves_is_queued_again_and_goes_on(
    slurm: Slurm, tmp_path: Path
) -> None:
    """SLURM looks at limits every 30 s, and signals 10 to 40 s before with `signal_seconds=10`."""
    step = Counting(upto=100)
    ledger = Ledger([step], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, step)
    while "count-1" not in calls(tmp_path):
        time.sleep(0.1)
    slurm.expire(job, 40)
    slurm.wait_for(job, "PENDING")
    saved = len(calls(tmp_path))
    thread.join(120)
    assert ledger.state(step) is State.done
    assert slurm.show(job)["Restarts"] == "1"
    counted = calls(tmp_path)
    assert counted[:saved] == [f"count-{i}" for i in range(saved)]
    assert counted[saved:] == [f"count-{i}" for i in range(saved - 1, 100)], "the last one again"


def test_a_worker_of_an_array_at_its_time_limit_is_queued_again(
    slurm: Slurm, tmp_path: Path
) -> None:
    shared = Shared(seconds=4.0)
    ledger = Ledger([shared], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, shared)
    while "part-0" not in calls(tmp_path):
        time.sleep(0.1)
    slurm.signal(f"{job}_0", "USR2")
    thread.join(150)
    assert not ledger.failures, ledger.failures[0].cause
    rows = Cache(tmp_path).path(shared) / "rows"
    assert {p.name: p.read_text() for p in rows.iterdir()} == {
        str(i): str(i * i) for i in range(12)
    }


def test_without_a_free_node_the_jobs_wait_and_then_run(slurm: Slurm, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        slurm.drain(node)
    ledger = Ledger([Number(value=1)], Cache(tmp_path))
    thread = in_background(ledger)
    slurm.wait_for(job_of(ledger.cache, Number(value=1)), "PENDING")
    time.sleep(2)
    assert thread.is_alive()
    slurm.resume("n1", "n2")
    thread.join(120)
    assert ledger.state(Number(value=1)) is State.done


def test_the_same_command_finds_the_jobs_that_an_earlier_one_left(
    slurm: Slurm, tmp_path: Path
) -> None:
    ledger = Ledger([Number(value=1, seconds=8)], Cache(tmp_path))
    thread = in_background(ledger)
    job = job_of(ledger.cache, Number(value=1))
    again = Ledger([Number(value=1)], Cache(tmp_path))
    executor().run(again)
    thread.join(60)
    assert job_of(again.cache, Number(value=1)) == job
    assert calls(tmp_path) == ["number-1"]


def test_the_submitting_process_may_leave(slurm: Slurm, tmp_path: Path) -> None:
    ledger = Ledger([Number(value=1)], Cache(tmp_path))
    with pytest.raises(JobsLeftError, match=r"jobs go on; `scancel \d+` ends them"):
        executor(wait=False).run(ledger)
    slurm.wait_for(job_of(ledger.cache, Number(value=1)), "COMPLETED")
    assert Cache(tmp_path).is_ready(Number(value=1))


@pytest.mark.parametrize(
    ("settings", "row", "said"),
    [
        ({"partition": "gpu"}, {}, r"--partition=gpu .*Invalid partition name specified\. .*main"),
        ({}, {"gpus": 9}, r"--gpus-per-node=9 .*(Invalid generic resource|not available)"),
        ({}, {"nodes": 3}, r"--nodes=3 .*not available"),
        ({"more": {"constraint": "a100"}}, {}, r"--constraint=a100.*: [Ii]nvalid feature"),
    ],
)
def test_what_no_node_can_do_is_said_in_a_line_before_a_job_is_queued(
    slurm: Slurm, tmp_path: Path, settings: dict[str, Any], row: dict[str, int], said: str
) -> None:
    ledger = Ledger([Number(value=1)], Cache(tmp_path))
    given = {"hours": 0.1, **settings}
    chosen = SlurmExecutor(ExecutorSettings(kind="slurm", **given), {"prepare": Resources(**row)})
    with pytest.raises(ConfigError, match=said) as refused:
        chosen.check(ledger)
    assert "\n" not in str(refused.value)
    assert not slurm.run("squeue", "--noheader")


def test_preflight_lets_two_nodes_race_for_claims(slurm: Slurm, tmp_path: Path) -> None:
    (finding,) = try_from_two_nodes(tmp_path, None)
    assert (finding.level, finding.what) == ("ok", "claims"), finding
    assert not list((tmp_path / "preflight").iterdir())
