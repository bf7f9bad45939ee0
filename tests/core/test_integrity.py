"""A finished artifact proves itself: what is damaged is noticed, moved aside and made again."""

import json
import multiprocessing
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from steps import Number, Shared, calls

from icons_repro.core import integrity
from icons_repro.core.build import build, obtain
from icons_repro.core.cache import Cache
from icons_repro.core.files import content_hash, read_json_lines
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.engine.inline import InlineExecutor
from icons_repro.engine.ledger import Ledger
from icons_repro.engine.local import LocalExecutor

STEP = Number(value=2, reads=(Number(value=1),))


@dataclass(frozen=True, eq=False, kw_only=True)
class Linked(Step):
    """Has a link into its input, as a pool has into its world."""

    stage = "linked"
    group = "prepare"
    light = True

    world: Number

    def run(self, work: Work) -> Counts | None:
        (work.out / "images").symlink_to(work.path(self.world).resolve() / "images")
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Private(Step):
    """Writes a file as safetensors does."""

    stage = "private"
    group = "prepare"
    light = True

    def run(self, work: Work) -> Counts | None:
        (work.out / "weights").write_text("1")
        (work.out / "weights").chmod(0o600)
        return None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    """Change the content and nothing that a look at the folder shows."""
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_the_manifest_lists_every_file_with_its_size_and_hash_and_every_link(
    tmp_path: Path,
) -> None:
    world, cache = Number(value=1), Cache(tmp_path)
    number = obtain(world, cache) / "number"
    listed = json.loads((number.parent / "manifest.json").read_text())["files"]
    assert listed == {"number": [1, content_hash(number)]}
    linked = obtain(Linked(world=world), cache)
    listed = json.loads((linked / "manifest.json").read_text())["files"]
    assert listed == {"images": str(number.resolve().with_name("images"))}
    shared = obtain(Shared(), cache)
    listed = json.loads((shared / "manifest.json").read_text())["files"]
    assert sorted(listed) == sorted(f"rows/{i}" for i in range(12))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_whoever_may_read_a_new_file_may_read_what_is_finished(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        out = obtain(Private(), Cache(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((out / "weights").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "number").unlink(), "number is missing"),
        (lambda folder: cut(folder / "number"), "number has 0 bytes of 1"),
        (lambda folder: cut(folder / "manifest.json"), None),
        (lambda folder: (folder / "manifest.json").write_text('{"inp'), "manifest.json is cut"),
        (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
    ],
)
def test_a_damaged_input_is_named_moved_aside_and_made_again(
    tmp_path: Path, harm: Callable[[Path], object], says: str | None, caplog
) -> None:
    folder = obtain(Number(value=1), Cache(tmp_path))
    harm(folder)
    cache = Cache(tmp_path)
    with caplog.at_level("WARNING"):
        for _ in range(3):
            cache.is_ready(Number(value=1))
    ledger = Ledger([STEP], cache)
    InlineExecutor({}).run(ledger)
    assert (cache.path(STEP) / "number").read_text() == "3"
    again = says is not None  # a manifest that lacks its last line end is whole
    assert calls(tmp_path) == ["number-1"] * (1 + again) + ["number-2"]
    assert len(list(tmp_path.glob("number/*.damaged"))) == again
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warned == [f"{folder} is damaged and counts as missing: {says}"] * again


def test_another_content_of_the_same_size_is_found_when_asked_for(tmp_path: Path) -> None:
    flip(obtain(STEP, Cache(tmp_path)) / "number")
    assert Cache(tmp_path).is_ready(STEP)
    asked = Cache(tmp_path, verify=True)
    assert not asked.is_ready(STEP)
    assert asked.damage(asked.path(STEP)) == "number has another content"


def test_processes_that_look_at_sizes_alone_make_again_what_verify_found(tmp_path: Path) -> None:
    flip(obtain(STEP, Cache(tmp_path)) / "number")
    cache = Cache(tmp_path, verify=True)
    ledger = Ledger([STEP], cache)
    assert list(ledger.needed) == [STEP.fingerprint]
    cache.put_damaged_aside(ledger.needed.values())
    LocalExecutor({}, 1, gpus=[]).run(ledger)
    assert (cache.path(STEP) / "number").read_text() == "3"
    assert Cache(tmp_path, verify=True).is_ready(STEP)


def test_what_leads_into_a_deleted_artifact_is_missing_until_that_is_there_again(
    tmp_path: Path,
) -> None:
    world, cache = Number(value=1), Cache(tmp_path)
    step = Linked(world=world)
    shutil.rmtree(obtain(step, cache).parents[1] / "number")
    fresh = Cache(tmp_path)
    assert fresh.damage(fresh.path(step)).endswith("it is gone")
    obtain(step, fresh)
    assert fresh.is_ready(world)
    assert Cache(tmp_path).is_ready(step)
    assert calls(tmp_path) == ["number-1"] * 2


def test_a_whole_artifact_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obtain(STEP, Cache(tmp_path))
    looks: list[Path] = []
    look = integrity._look
    monkeypatch.setattr(integrity, "_look", lambda p: (looks.append(p), look(p))[1])
    cache = Cache(tmp_path)
    assert all(cache.is_ready(STEP) for _ in range(200))
    assert looks == [cache.path(STEP)]


def test_manifests_of_before_there_were_lists_are_taken_as_they_are(tmp_path: Path) -> None:
    path = obtain(STEP, Cache(tmp_path)) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]
    path.write_text(json.dumps(manifest))
    assert Cache(tmp_path, verify=True).is_ready(STEP)


def test_a_size_that_a_file_system_remembers_from_before_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = obtain(STEP, Cache(tmp_path))
    monkeypatch.setattr(integrity, "_look", lambda _: {"number": 0})
    assert integrity.damage(folder, {"number": [1, ""]}) is None
    assert integrity.damage(folder, {"number": [2, ""]}) == "number has 1 bytes of 2"


def test_a_cut_index_of_files_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text("[]")
    index = tmp_path / "files.json"
    for text in ('{"/a:1:2": "ab', "", "[1]", "\0\0\0"):
        index.write_text(text)
        assert file_fingerprint(tmp_path / "pool.json", index) == content_hash(
            tmp_path / "pool.json"
        )
        assert len(json.loads(index.read_text())) == 1


def _fingerprint(folder: Path, first: int) -> None:
    for n in range(first, first + 15):
        file_fingerprint(folder / f"{n}", folder / "files.json")


def test_an_index_written_by_several_at_once_loses_nothing(tmp_path: Path) -> None:
    for n in range(45):
        (tmp_path / f"{n}").write_text(f"{n}")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fingerprint, args=(tmp_path, n)) for n in (0, 15, 30)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(json.loads((tmp_path / "files.json").read_text())) == 45
    assert sorted(path.name for path in tmp_path.glob("files.*")) == ["files.json"]


def test_a_cut_last_line_is_left_out_and_any_other_is_named(tmp_path: Path) -> None:
    from icons_repro.core.errors import DataError

    path = tmp_path / "metrics.jsonl"
    assert list(read_json_lines(path)) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(read_json_lines(path)) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        list(read_json_lines(path))


def test_a_built_step_is_whole_at_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path, verify=True)
    obtain(Number(value=1), cache)
    assert build(STEP, cache)
    assert cache.is_ready(STEP)
