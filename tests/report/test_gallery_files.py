"""The page's gallery opens what the pool's own checks passed, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import build_records
from icons_repro.report.gather import PageInputs, Sample, Scored, gallery, rows_of


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


def shown(rows: list[Any], images: Path, tmp_path: Path, **policy: Any) -> list[Sample]:
    """Return what a page shows of a pool of these rows."""
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    chosen = RecordPolicy(on_bad_row="skip", **policy)
    build_records(tmp_path / "pool.json", images, tmp_path, chosen)
    inputs = PageInputs(
        results=None,  # type: ignore[arg-type]  # the gallery reads none
        row_of=rows_of(tmp_path / "records.arrow"),
        image_root=images,
        policy=chosen,
    )
    taken, left = gallery(inputs, Scored(np.ones(len(rows), dtype=bool), None, {}))
    assert left == []
    return taken


def row(image: Any, answer: str = "yes") -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nis it so"}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


@pytest.mark.parametrize("check", ["none", "exists", "decode"])
def test_refused_rows_are_not_drawn_from_outside_the_folder(
    check: str, images: Path, tmp_path: Path
) -> None:
    outside = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    rows = [row(name, f"no {name}") for name in outside] + [row("in.png")]
    assert [s.answer for s in shown(rows, images, tmp_path, check_images=check)] == ["yes"]


@pytest.mark.parametrize("check", ["none", "exists", "decode"])
def test_a_named_pipe_in_the_folder_does_not_hang_the_page(
    check: str, images: Path, tmp_path: Path
) -> None:
    rows = [row("pipe.png", "no"), row("in.png")]
    assert [s.answer for s in shown(rows, images, tmp_path, check_images=check)] == ["yes"]


def test_odd_rows_are_passed_over(images: Path, tmp_path: Path) -> None:
    odd = [
        "text",
        {"image": "in.png", "conversations": [1, 2]},
        {"image": "in.png", "conversations": [{"from": "human"}, {"from": "gpt"}]},
        {"image": "in.png", "conversations": "a string"},
        {"image": ["in.png"], "conversations": row("x")["conversations"]},
    ]
    assert [s.answer for s in shown([*odd, row("in.png")], images, tmp_path)] == ["yes"]


def test_links_are_drawn_where_the_pool_allows_them(images: Path, tmp_path: Path) -> None:
    assert len(shown([row("link.png")], images, tmp_path, follow_symlinks=True)) == 1


def test_the_image_folder_itself_may_be_a_link(images: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(images)
    assert len(shown([row("in.png")], tmp_path / "alias", tmp_path)) == 1
