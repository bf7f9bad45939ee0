"""A file is whole or not there."""

import os
from pathlib import Path

import pytest

from icons_repro.core.files import replacing, write_json


def half_written(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("ha")
        raise RuntimeError


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write_json(path, 1)
    with pytest.raises(RuntimeError):
        half_written(path)
    assert path.read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.bin"
    with replacing(path) as mine, replacing(path) as yours:
        mine.write_bytes(b"mine")
        yours.write_bytes(b"yours")
    assert path.read_bytes() == b"mine"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash of the machine may leave the name with nothing in it."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (seen.append("fsync"), fsync(n))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append("replace"), replace(a, b))[1])
    write_json(tmp_path / "manifest.json", {"files": {}})
    assert seen == ["fsync", "replace"]
