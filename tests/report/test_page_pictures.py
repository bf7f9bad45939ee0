"""The page opens the pictures that the pool's own checks passed, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records
from icons_repro.report.samples import texts
from icons_repro.report.sheets import NO_PICTURE, UNREADABLE


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One picture in the folder, one beside it, a link between them, a named pipe."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "in.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe.png")
    return folder


def shown(rows: list[Any], images: Path, tmp_path: Path, **policy: Any) -> dict[str, Any]:
    """Return what a page shows of the usable rows of a pool."""
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    chosen = RecordPolicy(on_bad_row="skip", **policy)
    build_records(tmp_path / "pool.json", images, tmp_path, chosen)
    table = RecordTable(tmp_path / "records.arrow")
    return texts(table, images, np.flatnonzero(table.usable))


def row(image: Any, answer: str = "yes") -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nis it so"}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


def drawn(found: dict[str, Any]) -> list[str]:
    """Answers of the rows whose picture is shown."""
    pairs = zip(found["turns"], found["image"], strict=True)
    return [turns[1] for turns, image in pairs if image >= 0]


@pytest.mark.parametrize("check", ["none", "exists", "decode"])
def test_refused_rows_are_not_drawn_from_outside_the_folder(
    check: str, images: Path, tmp_path: Path
) -> None:
    outside = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    rows = [row(name, f"no {name}") for name in outside] + [row("in.png")]
    assert drawn(shown(rows, images, tmp_path, check_images=check)) == ["yes"]


@pytest.mark.parametrize("check", ["none", "exists", "decode"])
def test_a_named_pipe_in_the_folder_does_not_hang_the_page(
    check: str, images: Path, tmp_path: Path
) -> None:
    rows = [row("pipe.png", "no"), row("in.png")]
    assert drawn(shown(rows, images, tmp_path, check_images=check)) == ["yes"]


def test_odd_rows_are_passed_over(images: Path, tmp_path: Path) -> None:
    odd = [
        "text",
        {"image": "in.png", "conversations": [1, 2]},
        {"image": "in.png", "conversations": [{"from": "human"}, {"from": "gpt"}]},
        {"image": "in.png", "conversations": "a string"},
    ]
    assert drawn(shown([*odd, row("in.png")], images, tmp_path)) == ["yes"]


def test_links_are_drawn_where_the_pool_allows_them(images: Path, tmp_path: Path) -> None:
    assert drawn(shown([row("link.png")], images, tmp_path, follow_symlinks=True)) == ["yes"]


def test_the_image_folder_itself_may_be_a_link(images: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(images)
    assert drawn(shown([row("in.png")], tmp_path / "alias", tmp_path)) == ["yes"]


def test_a_picture_that_is_gone_since_is_a_placeholder_and_the_row_stays(
    images: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(images / "soon_gone.png")
    rows = [row("soon_gone.png"), row("in.png"), {"conversations": row("")["conversations"]}]
    rows[2]["conversations"][0]["value"] = "no picture"
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    build_records(tmp_path / "pool.json", images, tmp_path, RecordPolicy())
    (images / "soon_gone.png").unlink()
    table = RecordTable(tmp_path / "records.arrow")
    found = texts(table, images, np.arange(3))
    assert found["image"] == [UNREADABLE, 0, NO_PICTURE]


def test_a_picture_that_several_rows_name_is_drawn_once(images: Path, tmp_path: Path) -> None:
    found = shown([row("in.png"), row("in.png", "again")], images, tmp_path)
    assert found["image"] == [0, 0]
    assert len(found["pictures"]["widths"]) == 1
