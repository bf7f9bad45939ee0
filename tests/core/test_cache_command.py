"""`python -m icons_repro.cache`: what is there, whether it is whole, what could go."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from rich.filesize import decimal
from steps import Number, Resumable, calls

from icons_repro import cache as command
from icons_repro.core.build import build, obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import UserError

USED = Number(value=2, reads=(Number(value=1),))
UNUSED = Number(value=5)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one run that refers to `USED`; all of it a month old."""
    monkeypatch.setenv("COLUMNS", "200")
    cache = Cache(tmp_path / "cache")
    cache.root.mkdir()
    folders = [obtain(step, cache) for step in (USED, UNUSED)]
    folders.append(cache.path(Number(value=1)))
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    stages = {"number": {"fingerprint": USED.fingerprint}}
    (run / "results.json").write_text(json.dumps({"stages": stages}))
    for folder in folders:
        aged(folder / "manifest.json")
    return cache.root


def aged(path: Path) -> None:
    month = time.time() - 30 * 86_400
    os.utime(path, (month, month))


def run(root: Path, *words: str) -> int:
    return command.main([*words, "--cache", str(root)])


def test_verify_reads_everything_and_names_what_is_damaged(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "verify") == 0
    assert "3 finished steps, 0 damaged" in capsys.readouterr().out
    (Cache(root).path(UNUSED) / "number").write_text("6")
    (Cache(root).path(USED) / "manifest.json").write_text("{")
    assert run(root, "verify") == 1
    out = capsys.readouterr().out
    assert f"number/{UNUSED.fingerprint}: number has another content" in out
    assert f"number/{USED.fingerprint}: manifest.json is cut" in out


def test_list_says_size_age_and_how_many_need_it_in_eighty_columns(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(root, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if Number(value=1).fingerprint in line]
    whole = ("number", "1", Number(value=1).fingerprint, "1 byte", "30 d", "1", "1")
    assert first.split() == " ".join(whole).split()
    assert lines[0] == f"Cache {root}", "a path is never cut"


def test_du_sums_by_stage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "number" / "x.damaged").mkdir()
    (root / "number" / "x.damaged" / "half").write_bytes(b"x" * 5000)
    assert run(root, "du") == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "number" in text]
    manifests = sum(path.stat().st_size for path in root.glob("number/*/manifest.json"))
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["number", "3", "3 bytes", decimal(5000 + manifests)]


def _leave(root: Path) -> None:
    with pytest.raises(UserError):
        build(Resumable(), Cache(root))


def test_prune_takes_what_no_run_needs_and_only_when_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = multiprocessing.get_context("fork").Process(target=_leave, args=(root,))
    child.start()
    child.join()
    (root / "number" / "x.damaged").mkdir()
    mine = Cache(root).attempt(Number(value=9))
    for name in ("old", "new"):
        (root / "logs" / "number").mkdir(parents=True, exist_ok=True)
        (root / "logs" / "number" / f"{name}.log").write_text("said")
    aged(root / "logs" / "number" / "old.log")
    before = sorted(root.rglob("*"))
    assert run(root, "prune") == 0
    assert sorted(root.rglob("*")) == before
    assert "not removed: --yes removes" in capsys.readouterr().out
    assert run(root, "prune", "--yes") == 0
    cache = Cache(root)
    assert cache.is_ready(USED)
    assert cache.is_ready(Number(value=1))
    assert not cache.path(UNUSED).exists()
    assert mine.is_dir()
    assert [path.name for path in (root / "logs" / "number").iterdir()] == ["new.log"]
    assert not list(root.glob("*/*.damaged"))
    assert not list(root.glob("resumable/*.part"))
    made = calls(root)
    obtain(UNUSED, cache)
    assert calls(root) == [*made, "number-5"]


def test_what_is_young_is_left_alone(root: Path) -> None:
    os.utime(Cache(root).path(UNUSED) / "manifest.json")
    assert run(root, "prune", "--yes") == 0
    assert Cache(root).is_ready(UNUSED)
    assert run(root, "prune", "--yes", "--days", "0") == 0
    assert not Cache(root).is_ready(UNUSED)


def test_without_runs_or_a_cache_nothing_is_pruned(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "prune", "--yes", "--runs", str(tmp_path / "nowhere")) == 1
    assert Cache(root).is_ready(UNUSED)
    assert run(tmp_path / "nothing", "list") == 1
    assert "give --cache" in capsys.readouterr().err
