"""One writer's artifact, whatever happens: kills, several workers, locks that exclude nobody."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from steps import Number, Resumable, Shared, calls

from icons_repro.core import claims
from icons_repro.core.build import Options, build, obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import UserError

context = multiprocessing.get_context("fork")


def make(root: Path, step: Any, **options: Any) -> None:
    build(step, Cache(root), Options(**options))


def start(root: Path, step: Any, **options: Any) -> Any:
    process = context.Process(target=make, args=(root, step), kwargs=options)
    process.start()
    return process


def wait_for(root: Path, call: str) -> None:
    while call not in calls(root):
        time.sleep(0.01)


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    obtain(Number(value=1), Cache(tmp_path))
    obtain(Number(value=1), Cache(tmp_path))
    assert calls(tmp_path) == ["number-1"]


def test_the_manifest_says_what_made_it(tmp_path: Path) -> None:
    one = Number(value=1)
    path = obtain(Number(value=2, reads=(one,)), Cache(tmp_path))
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["config"]["value"] == 2
    assert "seconds" not in manifest["config"]
    assert manifest["inputs"] == {"reads_1": one.fingerprint}
    assert manifest["counts"] == {"rows": 1}
    assert {"commit", "versions", "created", "seconds", "step"} <= manifest.keys()


def test_a_failed_attempt_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        build(Number(value=1, fails="bug"), cache)
    assert not cache.path(Number(value=1)).exists()
    assert (obtain(Number(value=1), cache) / "number").read_text() == "1"


def test_what_is_left_is_taken_up_by_resumable_steps_alone(tmp_path: Path) -> None:
    process = context.Process(target=_try, args=(tmp_path, Resumable()))
    process.start()
    process.join()
    assert (obtain(Resumable(), Cache(tmp_path)) / "half").exists()
    assert calls(tmp_path) == ["left-False", "left-True"]


def _try(root: Path, step: Any) -> None:
    with pytest.raises(UserError):
        make(root, step)


def test_three_processes_share_one_computation_and_say_whom_they_wait_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step = Number(value=1, seconds=0.5)
    processes = [start(tmp_path, step) for _ in range(2)]
    wait_for(tmp_path, "number-1")
    with caplog.at_level("INFO"):
        make(tmp_path, step)
    for process in processes:
        process.join()
    assert calls(tmp_path) == ["number-1"]
    pids = [f"waiting for process {process.pid} on" for process in processes]
    assert any(pid in caplog.text for pid in pids)


def test_a_killed_owner_on_this_machine_is_succeeded_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, Number(value=1, seconds=60))
    wait_for(tmp_path, "number-1")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    began = time.monotonic()
    make(tmp_path, Number(value=1))
    assert time.monotonic() - began < 3
    assert not list(tmp_path.glob("number/*.part"))


def foreign(tmp_path: Path, beating: bool) -> claims.Owner:
    """An owner on another host, whose heartbeat this test moves or does not."""
    heart = tmp_path / "workers" / "abroad.alive"
    heart.parent.mkdir(parents=True, exist_ok=True)
    heart.write_text("{}")
    owner = claims.Owner("abroad", "elsewhere", 1, "other-boot", 0.0, str(heart))
    if beating:
        context.Process(target=_beat, args=(heart,), daemon=True).start()
    return owner


def _beat(heart: Path) -> None:
    for i in range(100):
        time.sleep(0.02)
        os.utime(heart, (i, i))


@pytest.mark.parametrize("beating", [True, False])
def test_an_owner_on_another_host_is_given_up_only_when_its_heart_stands_still(
    tmp_path: Path, beating: bool
) -> None:
    owner, watch = foreign(tmp_path, beating), claims.Watch(lease=0.3)
    claim = tmp_path / "x.claim"
    assert claims.acquire(claim, owner) is None
    mine = Cache(tmp_path).owner
    until = time.monotonic() + 1.0
    held: claims.Owner | None = owner
    while held is not None and time.monotonic() < until:
        held = claims.acquire(claim, mine, watch)
        time.sleep(0.02)
    assert (held is None) is not beating
    assert claims.read_owner(claim) == (owner if beating else mine)


def test_a_hung_owner_is_named_and_succeeded_when_its_heart_has_stood_still(
    tmp_path: Path,
) -> None:
    """A stopped process of this machine is there and does nothing; nobody waits for it for ever."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from icons_repro.core.claims import Heart, acquire;"
        "root = Path(sys.argv[1]); owner = Heart.of(root / 'workers').owner;"
        "acquire(root / 'x.claim', owner); print(owner.pid, flush=True); time.sleep(600)"
    )
    hung = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert hung.stdout
        pid = int(hung.stdout.readline())
        hung.send_signal(signal.SIGSTOP)
        mine, watch = Cache(tmp_path).owner, claims.Watch(lease=0.5)
        holder = claims.acquire(tmp_path / "x.claim", mine, watch)
        assert holder is not None
        assert f"process {pid} on" in str(holder)
        time.sleep(0.7)
        assert claims.acquire(tmp_path / "x.claim", mine, watch) is None
    finally:
        hung.kill()
        hung.wait()


def test_another_users_process_that_proc_hides_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters mount /proc with hidepid: there, others' processes do not seem to be."""

    def hidden(pid: int) -> NoReturn:
        raise psutil.NoSuchProcess(pid)

    owner = Cache(tmp_path).owner
    assert not owner.gone
    monkeypatch.setattr(psutil, "Process", hidden)
    assert owner.gone  # one's own is never hidden
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert not owner.gone  # its heart says whether it lives
    Path(owner.heartbeat).unlink()
    assert owner.gone  # it left in good order


def test_a_file_system_that_stumbles_does_not_stop_the_heart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbles = [OSError(116, "Stale file handle"), None, FileNotFoundError()]
    beats = chain(stumbles, repeat(None))
    done = []

    def utime(path: Path) -> None:
        found = next(beats)
        done.append(found)
        if found:
            raise found

    monkeypatch.setattr(claims, "BEAT", 0.01)
    monkeypatch.setattr(os, "utime", utime)
    heart = claims.Heart(tmp_path)
    until = time.monotonic() + 5
    while len(done) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert done[:3] == stumbles
    assert heart.path.exists()


def test_what_a_process_left_in_good_order_is_taken_up_at_once_on_any_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = context.Process(target=_leave, args=(tmp_path,))
    process.start()
    process.join()
    monkeypatch.setattr(claims, "_namespace", lambda: "another host")
    began = time.monotonic()
    obtain(Resumable(), Cache(tmp_path))
    assert calls(tmp_path) == ["left-False", "left-True"]
    assert time.monotonic() - began < 2


def _leave(root: Path) -> None:
    _try(root, Resumable())
    claims.Heart.stop()


def test_a_claim_cut_while_it_was_written_blocks_nobody_for_long(tmp_path: Path) -> None:
    claim = tmp_path / "x.claim"
    claim.write_text('{"id": "ab')
    os.utime(claim, (time.time() - 60, time.time() - 60))
    assert claims.acquire(claim, Cache(tmp_path).owner) is None


def test_where_claims_exclude_nobody_the_artifact_is_still_one_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.core import build as module

    monkeypatch.setattr(claims, "acquire", lambda *_: None)
    monkeypatch.setattr(module, "acquire", lambda *_: None)
    processes = [start(tmp_path, Number(value=1, seconds=0.2 * n)) for n in (1, 2, 3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert calls(tmp_path).count("number-1") >= 2, "work was really done twice"
    path = Cache(tmp_path).path(Number(value=1))
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", "number"]
    assert not list(tmp_path.glob("number/*.part"))


def test_a_folder_without_its_manifest_is_moved_aside_and_computed_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (obtain(Number(value=1), cache) / "manifest.json").unlink()
    assert (obtain(Number(value=1), cache) / "manifest.json").exists()
    assert len(list(tmp_path.glob("number/*.damaged"))) == 1


def rows_of(root: Path) -> dict[str, str]:
    path = Cache(root).path(Shared()) / "rows"
    return {row.name: row.read_text() for row in path.iterdir()}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("chunks", [1, 4, 12])
def test_a_shared_step_is_the_same_whoever_fills_it(
    tmp_path: Path, workers: int, chunks: int
) -> None:
    step = Shared(seconds=0.02)
    processes = [start(tmp_path, step, chunks=chunks) for _ in range(workers)]
    for process in processes:
        process.join()
    assert rows_of(tmp_path) == {str(i): str(i * i) for i in range(12)}
    made = calls(tmp_path)
    assert sorted(made.count(f"part-{i}") for i in range(chunks)) == [1] * chunks
    assert (made.count("parts"), made.count("finish")) == (1, 1)
    folder = Cache(tmp_path).path(step)
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "rows"]
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_a_killed_workers_part_is_taken_up_by_another(tmp_path: Path) -> None:
    step = Shared(seconds=0.05, fails="killed-once")
    for _ in range(4):
        process = start(tmp_path, step, chunks=3)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    assert rows_of(tmp_path) == {str(i): str(i * i) for i in range(12)}
    assert [calls(tmp_path).count(f"part-{i}") for i in range(3)] == [2, 2, 2]


def test_a_worker_that_need_not_stay_leaves_the_rest_to_the_others(tmp_path: Path) -> None:
    slow = start(tmp_path, Shared(seconds=1.0), chunks=1)
    wait_for(tmp_path, "part-0")
    assert not build(Shared(), Cache(tmp_path), Options(chunks=1, stay=False))
    slow.join()
    assert build(Shared(), Cache(tmp_path), Options(stay=False))


def test_deleting_anything_is_safe(tmp_path: Path) -> None:
    obtain(Number(value=2, reads=(Number(value=1),)), Cache(tmp_path))
    for name in ("workers", "number"):
        shutil.rmtree(tmp_path / name)
        path = obtain(Number(value=2, reads=(Number(value=1),)), Cache(tmp_path))
        assert (path / "number").read_text() == "3"
