import json
import os
from pathlib import Path

import pytest

from icons_repro.core.settings import RecordPolicy
from icons_repro.data import image_identity
from icons_repro.data.image_identity import (
    Identity,
    Listing,
    changed_images,
    image_fingerprint,
    list_images,
    load_listing,
    save_listing,
)
from icons_repro.data.records import RecordTable, build_records

NAMES = ["a/1.png", "a/2.png", "b/3.png"]
EVERY: list[Identity] = ["stat", "hash"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"picture {name}")
        os.utime(path, ns=(1, 1))
    return tmp_path / "images"


def swap(folder: Path) -> None:
    """Exchange two files' contents, which have the same size, and keep their times."""
    texts = [(folder / name).read_text() for name in NAMES]
    for name, text in zip(NAMES, [texts[1], texts[0], texts[2]], strict=True):
        (folder / name).write_text(text)
        os.utime(folder / name, ns=(1, 1))


@pytest.mark.parametrize("identity", EVERY)
def test_a_changed_image_and_a_missing_one_are_named(folder: Path, identity: Identity) -> None:
    before = list_images(NAMES, folder, identity)
    (folder / "a/2.png").write_text("another picture")
    (folder / "b/3.png").unlink()
    after = list_images(NAMES, folder, identity)
    assert changed_images(before, after) == ["a/2.png", "b/3.png"]
    assert image_fingerprint(before) != image_fingerprint(after)
    assert changed_images(after, after) == []


@pytest.mark.parametrize("identity", EVERY)
def test_order_copies_and_place_of_the_folder_do_not_matter(
    folder: Path, identity: Identity
) -> None:
    before = image_fingerprint(list_images(NAMES, folder, identity))
    moved = folder.rename(folder.parent / "moved")
    (folder.parent / "alias").symlink_to(moved)
    assert image_fingerprint(list_images([*NAMES[::-1], *NAMES], moved, identity)) == before
    assert image_fingerprint(list_images(NAMES, folder.parent / "alias", identity)) == before


def test_only_contents_show_a_swap_that_keeps_sizes_and_times(folder: Path) -> None:
    before = {how: list_images(NAMES, folder, how) for how in EVERY}
    swap(folder)
    after = {how: list_images(NAMES, folder, how) for how in EVERY}
    assert changed_images(before["stat"], after["stat"]) == []
    assert changed_images(before["hash"], after["hash"]) == ["a/1.png", "a/2.png"]


def test_new_times_alone_are_a_change_by_stat_and_none_by_content(folder: Path) -> None:
    before = {how: list_images(NAMES, folder, how) for how in EVERY}
    os.utime(folder / "a/1.png", ns=(5, 5))
    after = {how: list_images(NAMES, folder, how) for how in EVERY}
    assert changed_images(before["stat"], after["stat"]) == ["a/1.png"]
    assert image_fingerprint(before["hash"]) == image_fingerprint(after["hash"])


def test_a_known_file_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_images(NAMES, folder, "hash")
    (folder / "b/3.png").write_text("another")
    read: list[str] = []
    content = image_identity._content
    monkeypatch.setattr(image_identity, "_content", lambda p: (read.append(p), content(p))[1])
    after = list_images(NAMES, folder, "hash", before)
    assert read == [str(folder / "b/3.png")]
    assert after == list_images(NAMES, folder, "hash")


def test_a_listing_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    for identity in EVERY:
        listing = list_images([*NAMES, "none.png"], folder, identity)
        save_listing(listing, tmp_path / "images.parquet")
        assert load_listing(tmp_path / "images.parquet") == listing


def test_odd_files_and_names_are_absent_and_do_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    odd = ["pipe.png", "a", "a\0b", "x" * 5000]
    for identity in EVERY:
        assert {state.size for state in list_images(odd, folder, identity).values()} == {-1}


def test_nothing_is_looked_at_where_nothing_is_asked_for(tmp_path: Path) -> None:
    nothing: Listing = {}
    assert list_images(NAMES, tmp_path / "nowhere", "none") == nothing


def test_the_images_of_a_pool_are_those_its_usable_rows_show(folder: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "it"}]
    names = ["b/3.png", "a/1.png", "a/1.png", "../outside.png", None]
    rows = [{"image": n, "conversations": turns} for n in names]
    rows[-1]["conversations"] = [{"from": "human", "value": "what"}, turns[1]]
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    build_records(tmp_path / "pool.json", folder, tmp_path, RecordPolicy(on_bad_row="skip"))
    assert RecordTable(tmp_path / "records.arrow").image_names == ["a/1.png", "b/3.png"]
