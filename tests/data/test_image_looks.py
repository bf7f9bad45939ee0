"""A pool is named by its pictures too: changed ones never meet what was made from the old."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import DataError
from icons_repro.core.refs import file_ref, folder_ref
from icons_repro.core.settings import ImageIdentity, RecordPolicy
from icons_repro.data import image_looks
from icons_repro.data.image_identity import load_listing
from icons_repro.data.image_looks import LISTING, ImageLooks
from icons_repro.data.stage import Pool, Targets

from pool_files import row  # isort: skip

NAMES = [f"a/{n}.png" for n in range(6)]
EVERY: list[ImageIdentity] = ["stat", "hash"]


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path, format="PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for shade, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, shade)
    rows = [row(name) for name in NAMES] + [row(None), row("../outside.png"), "no row", row("a/no")]
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "task.json").write_text(json.dumps(rows[:2]))
    return tmp_path


def pool(root: Path, identity: ImageIdentity = "stat", looks: ImageLooks | None = None) -> Pool:
    """The pool as a run that begins now would name it."""
    source = file_ref(root / "pool.json", root / "cache" / "files.json")
    images = (looks or ImageLooks(root / "cache")).ref("pool", source, root / "images", identity)
    return Pool(policy=RecordPolicy(on_bad_row="skip"), source=source, images=images)


def targets(root: Path) -> Targets:
    source = folder_ref(root / "targets", root / "cache" / "files.json", "*.json")
    images = ImageLooks(root / "cache").ref("targets", source, root / "images", "stat")
    return Targets(policy=RecordPolicy(), tasks=None, source=source, images=images)


def swap(root: Path) -> None:
    first, second, aside = (root / "images" / n for n in (NAMES[0], NAMES[1], "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def change(root: Path) -> None:
    picture(root / "images" / NAMES[0], 99)


def delete(root: Path) -> None:
    (root / "images" / NAMES[0]).unlink()


def bring(root: Path) -> None:
    """The picture of a row that could not be used."""
    picture(root / "images" / "a" / "no", 7)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if "images are not what they were" in message]


@pytest.mark.parametrize("identity", EVERY)
@pytest.mark.parametrize("harm", [swap, change, delete])
def test_other_pictures_make_another_pool_and_are_named_until_it_is_read(
    root: Path, harm, identity: ImageIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    before, cache = pool(root, identity), Cache(root / "cache")
    obtain(before, cache)
    assert pool(root, identity).fingerprint == before.fingerprint
    assert told(caplog) == []
    harm(root)
    for _ in range(2):  # a plan, then the run
        caplog.clear()
        after = pool(root, identity)
        assert after.fingerprint != before.fingerprint
        (message,) = told(caplog)
        assert f"{2 if harm is swap else 1} of 7 images" in message
        assert NAMES[0] in message
    caplog.clear()
    obtain(after, cache)
    assert pool(root, identity).fingerprint == after.fingerprint
    assert told(caplog) == []


def test_a_picture_that_was_missing_makes_another_pool(root: Path) -> None:
    before = pool(root)
    bring(root)
    assert pool(root).fingerprint != before.fingerprint


def test_other_pictures_of_the_targets_make_other_targets(root: Path) -> None:
    before = targets(root)
    obtain(before, Cache(root / "cache"))
    change(root)
    after = targets(root)
    assert after.fingerprint != before.fingerprint
    obtain(after, Cache(root / "cache"))


def test_none_looks_at_nothing_and_takes_the_folder_for_the_name(root: Path) -> None:
    before = pool(root, "none")
    change(root)
    assert pool(root, "none").fingerprint == before.fingerprint
    assert not (root / "cache" / "images").exists()
    folder = obtain(before, Cache(root / "cache"))
    assert not (folder / LISTING).exists()
    (root / "images").rename(root / "elsewhere")
    (root / "images").mkdir()
    source = before.source
    assert source is not None
    other = ImageLooks(root / "cache").ref("pool", source, root / "elsewhere", "none")
    assert replace(before, images=other).fingerprint != before.fingerprint


def test_the_place_of_the_folder_is_no_part_of_the_name(root: Path) -> None:
    before = pool(root)
    (root / "images").rename(root / "moved")
    source = before.source
    assert source is not None
    moved = ImageLooks(root / "cache").ref("pool", source, root / "moved", "stat")
    assert replace(before, images=moved).fingerprint == before.fingerprint


def test_pictures_that_change_between_the_graph_and_the_reading_stop_the_step(root: Path) -> None:
    before = pool(root)
    change(root)
    with pytest.raises(DataError, match="have changed since this run began"):
        obtain(before, Cache(root / "cache"))
    folder = obtain(pool(root), Cache(root / "cache"))
    assert list(load_listing(folder / LISTING)) == sorted([*NAMES, "a/no"])


def test_a_sweep_looks_once_and_the_files_are_read_for_names_once_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, passes = [], []
    look, names = image_looks.list_images, image_looks._names
    monkeypatch.setattr(image_looks, "list_images", lambda *a: (looks.append(1), look(*a))[1])
    monkeypatch.setattr(image_looks, "_names", lambda *a: (passes.append(1), names(*a))[1])
    shared = ImageLooks(root / "cache")
    assert len({pool(root, looks=shared).fingerprint for _ in range(5)}) == 1
    assert (len(looks), len(passes)) == (1, 1)
    pool(root)
    assert (len(looks), len(passes)) == (2, 1)


def test_a_cut_memory_of_names_is_made_again(root: Path) -> None:
    before = pool(root).fingerprint
    (memory,) = (root / "cache" / "images").iterdir()
    os.truncate(memory, memory.stat().st_size // 2)
    assert pool(root).fingerprint == before
