import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from icons_repro.core.artifacts import ArtifactCache, Step, Workspace


def write_number(ws: Workspace) -> dict[str, int]:
    (ws.out / "number").write_text("1")
    return {"rows": 1}


def test_fingerprint_follows_config_inputs_and_version_only() -> None:
    a = Step("a", write_number, {"x": 1})
    assert a.fingerprint == Step("a", lambda ws: None, {"x": 1}).fingerprint
    assert a.fingerprint != Step("a", write_number, {"x": 2}).fingerprint
    assert a.fingerprint != Step("a", write_number, {"x": 1}, version=2).fingerprint
    b = Step("b", write_number, {}, {"a": a})
    other = Step("b", write_number, {}, {"a": Step("a", write_number, {"x": 2})})
    assert b.fingerprint != other.fingerprint


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def build(ws: Workspace) -> None:
        calls.append(1)

    step = Step("a", build)
    assert not ArtifactCache(tmp_path).get(step).cached
    assert ArtifactCache(tmp_path).get(step).cached
    assert calls == [1]


def test_manifest_says_what_made_it(tmp_path: Path) -> None:
    a = Step("a", write_number, {"x": 1})
    artifact = ArtifactCache(tmp_path).get(Step("b", write_number, {"y": 2}, {"first": a}))
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest["config"] == {"y": 2}
    assert manifest["inputs"] == {"first": a.fingerprint}
    assert manifest["counts"] == {"rows": 1}
    assert {"commit", "versions", "created", "seconds"} <= manifest.keys()


def test_a_failed_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def build(ws: Workspace) -> None:
        (ws.out / "half").write_text("half")
        raise RuntimeError("stop")

    step = Step("a", build)
    cache = ArtifactCache(tmp_path)
    with pytest.raises(RuntimeError, match="stop"):
        cache.get(step)
    assert not cache.is_ready(step)
    assert not cache.path(step).exists()


def test_leftovers_are_kept_only_for_resumable_steps(tmp_path: Path) -> None:
    for resumable in (False, True):
        seen: list[bool] = []

        def build(ws: Workspace, seen: list[bool] = seen) -> None:
            seen.append((ws.out / "half").exists())

        step = Step("a", build, {"resumable": resumable}, resumable=resumable)
        cache = ArtifactCache(tmp_path)
        part = cache.path(step).with_suffix(".part")
        part.mkdir(parents=True)
        (part / "half").write_text("half")
        cache.get(step)
        assert seen == [resumable]


def test_why_missing_names_the_changed_key(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    assert cache.why_missing(Step("a", write_number, {"x": 1})) == "never computed"
    cache.get(Step("a", write_number, {"x": 1, "deep": {"y": 2}}))
    why = cache.why_missing(Step("a", write_number, {"x": 1, "deep": {"y": 3}}))
    assert why == "deep.y: 2 -> 3"


def slow(ws: Workspace) -> None:
    with (ws.out.parent.parent / "calls").open("a") as file:
        file.write("x")
    time.sleep(0.5)


def get_slow(root: Path) -> None:
    ArtifactCache(root).get(Step("slow", slow))


def test_two_processes_share_one_computation(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=get_slow, args=(tmp_path,)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    job = multiprocessing.get_context("fork").Process(target=get_slow, args=(tmp_path,))
    job.start()
    while not (tmp_path / "calls").exists():
        time.sleep(0.01)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    step = Step("slow", slow)
    assert not ArtifactCache(tmp_path).is_ready(step)
    get_slow(tmp_path)
    assert ArtifactCache(tmp_path).is_ready(step)
