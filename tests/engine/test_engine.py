"""A graph is worked off: each step once, side by side, a failure stopping only what needs it."""

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from steps import Number, Shared, calls

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import ExecutorSettings
from icons_repro.core.step import Step
from icons_repro.engine.executors import choose_executor, resolved
from icons_repro.engine.inline import InlineExecutor
from icons_repro.engine.ledger import Ledger, State
from icons_repro.engine.local import LocalExecutor
from icons_repro.engine.logs import log_of
from icons_repro.engine.resources import Resources, check_table
from icons_repro.engine.screen import Screen

CHUNKS = {"extract": Resources(chunks=4, gpus=0)}


def executor(kind: str, workers: int = 2) -> InlineExecutor | LocalExecutor:
    return InlineExecutor(CHUNKS) if kind == "inline" else LocalExecutor(CHUNKS, workers, gpus=[])


def diamond(**bottom: object) -> list[Step]:
    """Two goals over one shared root; `bottom` are fields of the second branch."""
    root = Number(value=1)
    left = Number(value=10, reads=(root,))
    right = Number(value=20, reads=(root,), **bottom)  # type: ignore[arg-type]
    return [Number(value=100, reads=(left,)), Number(value=200, reads=(right,))]


@pytest.mark.parametrize("kind", ["inline", "local"])
def test_each_step_of_the_union_is_made_once(tmp_path: Path, kind: str) -> None:
    ledger = Ledger(diamond(), Cache(tmp_path))
    assert len(ledger.needed) == 5
    executor(kind).run(ledger)
    assert sorted(calls(tmp_path)) == [f"number-{i}" for i in (1, 10, 100, 20, 200)]
    assert not ledger.failures
    again = Ledger(diamond(), Cache(tmp_path))
    assert not again.needed
    assert again.artifact(diamond()[0]).cached
    assert not ledger.artifact(diamond()[0]).cached


@pytest.mark.parametrize("kind", ["inline", "local"])
@pytest.mark.parametrize(("fails", "cause"), [("user", "number 20 is bad"), ("bug", "by zero")])
def test_a_failed_step_stops_only_what_needs_it_and_says_why(
    tmp_path: Path, kind: str, fails: str, cause: str
) -> None:
    goals = diamond(fails=fails)
    ledger = Ledger(goals, Cache(tmp_path))
    executor(kind).run(ledger)
    assert ledger.state(goals[0]) is State.done
    assert ledger.state(goals[1]) is State.blocked
    (failure,) = ledger.failures
    assert failure.step.label == "20"
    assert cause in failure.cause
    assert calls(tmp_path).count("number-20") == 1
    executor(kind).run(Ledger(diamond(), Cache(tmp_path)))
    assert calls(tmp_path).count("number-1") == 1


def test_a_process_that_was_killed_is_tried_again(tmp_path: Path) -> None:
    ledger = Ledger(diamond(fails="killed-once"), Cache(tmp_path))
    executor("local").run(ledger)
    assert not ledger.failures
    assert calls(tmp_path).count("number-20") == 2


def test_a_process_that_is_killed_each_time_fails_by_its_signal(tmp_path: Path) -> None:
    ledger = Ledger(diamond(fails="killed-once"), Cache(tmp_path))
    LocalExecutor({"prepare": Resources(retries=0)}, 2, gpus=[]).run(ledger)
    assert "was killed (SIGKILL)" in ledger.failures[0].cause


def test_independent_steps_run_side_by_side(tmp_path: Path) -> None:
    goals = [Number(value=i, seconds=1.0) for i in range(4)]
    ledger = Ledger(goals, Cache(tmp_path))
    began = time.monotonic()
    LocalExecutor({}, 4, gpus=[]).run(ledger)
    spans = [(ledger.started[g.fingerprint], ledger.seconds[g.fingerprint]) for g in goals]
    last_start = max(start for start, _ in spans)
    assert all(start + seconds > last_start for start, seconds in spans), "they overlap"
    assert time.monotonic() - began < 30


def test_idle_workers_help_with_a_shared_step(tmp_path: Path) -> None:
    ledger = Ledger([Shared(seconds=1.5)], Cache(tmp_path))
    executor("local").run(ledger)
    log = log_of(ledger.cache, Shared())
    assert log.read_text().count("shared ...") >= 2, "each worker says that it begins"
    assert sorted(calls(tmp_path)) == sorted(["parts", "finish", *(f"part-{i}" for i in range(4))])


def test_a_shared_step_that_fails_while_others_help_fails_once(tmp_path: Path) -> None:
    ledger = Ledger([Shared(fails="user", seconds=0.5)], Cache(tmp_path))
    LocalExecutor(CHUNKS, 2, gpus=[]).run(ledger)
    (failure,) = ledger.failures
    assert "part 1 is bad" in failure.cause
    assert calls(tmp_path).count("part-1") <= 2, "once for each worker that was at it"


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.7, 1.3])
def test_a_worker_killed_at_any_moment_costs_no_row(tmp_path: Path, moment: float) -> None:
    """Four workers fill one step; one of them is killed `moment` seconds after the first part."""
    step = Shared(seconds=0.4)

    def kill() -> None:
        while "part-0" not in calls(tmp_path):
            time.sleep(0.01)
        time.sleep(moment)
        import json

        cards = [json.loads(p.read_text()) for p in (tmp_path / "workers").glob("*.alive")]
        alive = [c["pid"] for c in cards if c["pid"] != os.getpid() and _runs(c["pid"])]
        if alive:
            os.kill(alive[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    table = {"extract": Resources(chunks=8, gpus=0, retries=2)}
    ledger = Ledger([step], Cache(tmp_path))
    LocalExecutor(table, 4, gpus=[]).run(ledger)
    killer.join()
    assert not ledger.failures
    rows = {p.name: p.read_text() for p in (Cache(tmp_path).path(step) / "rows").iterdir()}
    assert rows == {str(i): str(i * i) for i in range(12)}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_what_has_most_work_behind_it_begins_first(tmp_path: Path) -> None:
    root = Number(value=0)
    chain: Step = root
    for i in range(1, 4):
        chain = Number(value=i, reads=(chain,))
    ledger = Ledger([Number(value=9), chain], Cache(tmp_path))
    assert [step.label for step in ledger.ready()] == ["0", "9"]


def test_more_gpus_than_there_are_is_said_before_work_starts(tmp_path: Path) -> None:
    ledger = Ledger([Number(value=1)], Cache(tmp_path))
    table = {"prepare": Resources(gpus=2)}
    with pytest.raises(ConfigError, match=r"resources\.prepare\.gpus=2, but this machine has 1"):
        LocalExecutor(table, 2, gpus=["0"]).check(ledger)
    with pytest.raises(ConfigError, match="has one node"):
        LocalExecutor({"prepare": Resources(nodes=2)}, 2, gpus=["0"]).check(ledger)


def test_each_worker_sees_its_own_gpu(tmp_path: Path) -> None:
    ledger = Ledger([Number(value=i, seconds=0.5) for i in range(3)], Cache(tmp_path))
    runner = LocalExecutor({"prepare": Resources(gpus=1)}, 3, gpus=["4", "7"])
    seen: list[int] = []
    spawn = runner._spawn
    runner._spawn = lambda s, led, g: seen.append(len(g)) or spawn(s, led, g)  # type: ignore
    runner.run(ledger)
    assert seen == [1, 1, 1]
    spans = sorted((ledger.started[f], ledger.seconds[f]) for f in ledger.needed)
    assert spans[2][0] > spans[0][0] + 0.5, "the third waited for a GPU"


def test_a_step_that_wants_all_gpus_is_not_overtaken_for_ever(tmp_path: Path) -> None:
    small = [Number(value=i, seconds=0.3) for i in range(6)]
    large = Shared(seconds=0.1)  # its weight puts it first
    ledger = Ledger([*small, large], Cache(tmp_path))
    table = {"prepare": Resources(gpus=1), "extract": Resources(gpus=2)}
    LocalExecutor(table, 3, gpus=["0", "1"]).run(ledger)
    assert not ledger.failures
    begun = ledger.started[large.fingerprint]
    assert sum(ledger.started[s.fingerprint] > begun for s in small) >= 4


def test_resources_of_unknown_work_are_named() -> None:
    with pytest.raises(ConfigError, match=r"resources\.extrct: there is no such work"):
        check_table({"extrct": Resources()}, ["extract"])


def test_open_resources_are_filled_from_the_trainers_devices() -> None:
    table = resolved({"extract": Resources(gpus=2)}, {"extract": 1, "finetune": 8}, True, 2)
    assert (table["extract"].gpus, table["extract"].nodes) == (2, 1)
    assert (table["finetune"].gpus, table["finetune"].nodes) == (8, 2)
    assert resolved({}, {"finetune": 1}, False, 1)["finetune"].gpus == 0


def test_an_executor_without_its_cluster_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    chosen = choose_executor(ExecutorSettings(kind="slurm"), {}, None)
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        chosen.check(Ledger([Number(value=1)], Cache(tmp_path)))


def test_the_screen_shows_counts_names_and_time_left(tmp_path: Path) -> None:
    goals = diamond()
    ledger = Ledger(goals, Cache(tmp_path))
    steps = list(ledger.needed.values())
    ledger.start(steps[0])
    ledger.finish(steps[0])
    ledger.start(steps[1])
    ledger.fail(steps[3], "no reason")
    console = Console(width=80, record=True, force_terminal=True)
    console.print(Screen(ledger, 2, console).draw())
    text = console.export_text()
    assert "number (10)" in text
    for words in ("1 done", "1 running", "1 failed", "1 blocked", "1 waiting", "left"):
        assert words in text


def test_one_process_leaves_a_gpus_memory_to_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would hold what models took while torchrun starts other processes on that GPU."""
    given: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append(gc.get_count()[2] == 0))
    InlineExecutor({}).run(Ledger(diamond(fails="user"), Cache(tmp_path)))
    assert given == [True] * 4, "before each step, also after one that failed"


def test_planning_a_graph_touches_nothing(tmp_path: Path) -> None:
    Ledger(diamond(), Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_obtain_and_the_engine_agree(tmp_path: Path) -> None:
    assert (obtain(diamond()[1], Cache(tmp_path / "a")) / "number").read_text() == "221"
    InlineExecutor({}).run(Ledger(diamond(), Cache(tmp_path / "b")))
    assert (obtain(diamond()[1], Cache(tmp_path / "b")) / "number").read_text() == "221"
