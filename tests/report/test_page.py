from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from icons_repro.report import svg
from icons_repro.report.gather import PageInputs, overlaps, scored, sources, vote_counts
from icons_repro.report.page import write_page

VOID = {"meta", "img", "br", "input"}


class Balanced(html.parser.HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def data_of(text: str, name: str) -> dict[str, Any]:
    """What a page's scripts find."""
    start = text.index(f'<script type="application/json" id="{name}">')
    found: dict[str, Any] = json.loads(text[text.index(">", start) + 1 : text.index("</", start)])
    return found


def test_page_is_one_well_formed_file_that_loads_nothing(
    inputs: PageInputs, tmp_path: Path
) -> None:
    text = write_page(tmp_path, inputs).read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "<link" not in text
    markup = text[: text.index("<script")]
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", markup)
    assert "url(" not in markup
    assert not list(tmp_path.glob("*.part"))


def test_page_holds_every_part(inputs: PageInputs, tmp_path: Path) -> None:
    text = write_page(tmp_path, inputs).read_text()
    for heading in ("Benchmarks", "Make-up by source", "Votes", "Tasks", "Rows", "Training",
                    "Stages", "Files"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in text
    assert "97.0% [95.0, 99.0]" in text
    assert "no key" in text
    rows = data_of(text, "rows-data")
    assert len(rows["key"]) == 60
    assert sum(image >= 0 for image in rows["image"]) == 30
    assert rows["turns"][0][0] == "<image>\nis 0 < 3 & odd?"


def test_page_without_selection_or_scores_still_stands(inputs: PageInputs, tmp_path: Path) -> None:
    bare = PageInputs(results=replace(inputs.results, benchmarks={}))
    parser = Balanced()
    parser.feed(write_page(tmp_path, bare).read_text())
    assert parser.open == []


def test_a_method_without_votes_or_influence_leaves_those_parts_out(
    inputs: PageInputs, selection: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(selection / "scores.parquet").select(["key", "position", "score"])
    pq.write_table(table, selection / "scores.parquet")
    text = write_page(tmp_path, inputs).read_text()
    assert "<h2>Votes</h2>" not in text
    assert "<h2>Tasks</h2>" not in text
    assert "<h2>Rows</h2>" in text


def test_gathered_numbers_add_up(selection: Path) -> None:
    found = scored(selection)
    labels, chosen, left = vote_counts(found)
    assert labels == ["0", "1", "2"]
    assert sum(chosen) == 12
    assert sum(chosen) + sum(left) == 60
    names, shares = overlaps(found)
    assert names == ["tiny_vqa", "tiny_gqa"]
    np.testing.assert_allclose(np.diag(shares), 1.0)
    assert shares[0, 1] == shares[1, 0]
    rows = sources(selection)
    assert rows[0] == ("shapes", 45 / 60, 11 / 12)
    assert sum(pool for _, pool, _ in rows) == 1.0


def test_curves_of_nothing_are_nothing() -> None:
    assert svg.curves({"warmup": (np.array([]), np.array([]))}) == ""


def test_reports_import_nothing_heavy() -> None:
    code = (
        "import sys, icons_repro.report.page, icons_repro.report.tables;"
        "import icons_repro.report.summary, icons_repro.report.sweep_page;"
        "heavy = ('torch', 'matplotlib', 'pyarrow', 'scipy', 'PIL', 'vl_convert', 'jinja2');"
        "print([m for m in heavy if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def leakage_folder(folder: Path, **changes: Any) -> Path:
    """A leakage step's folder, with one pair of pictures."""
    (folder / "pairs").mkdir(parents=True)
    Image.new("RGB", (264, 128)).save(folder / "pairs" / "00.webp")
    seen = {"pictures": 9, "shown": 10, "flat": 0, "unreadable": 0, "unreadable_examples": []}
    shared = {"same": 1, "near": 2, "shown": 4, "matched": 3}
    told = {
        "rule": {"bits": 64, "distance": 6, "correlation": 0.95},
        "pool": seen,
        "tests": {"tiny_vqa": seen},
        "targets": {"tiny_vqa": seen},
        "not_checked": {"gqa": "the hub <cannot> be reached"},
        "tests_in_pool": {"tiny_vqa": {"pool": shared}},
        "targets_in_pool": {"tiny_vqa": {"pool": shared}},
        "targets_in_tests": {"tiny_vqa": {"tiny_vqa": shared}},
        "pairs": [
            {"kind": "tests_in_pool", "lists": ["tiny_vqa", "pool"], "bits": None,
             "pictures": ["question 1", "<script>.png"], "file": "pairs/00.webp"},
        ],
    }  # fmt: skip
    (folder / "leakage.json").write_text(json.dumps(told | changes))
    return folder


def test_the_page_tells_of_leakage_with_pictures_side_by_side(
    inputs: PageInputs, tmp_path: Path
) -> None:
    found = replace(inputs, leakage=leakage_folder(tmp_path / "leakage"))
    text = write_page(tmp_path, found).read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    part = text[text.index('<section id="leakage">') : text.index('<section id="training">')]
    assert 'href="#leakage"' in text
    for said in ("40.0%", "1 + 2", "the same pixels", "data:image/webp;base64,"):
        assert said in part
    assert "gqa: not checked: the hub &lt;cannot&gt; be reached" in part
    assert "&lt;script&gt;.png" in part
    assert "<script" not in part


def test_a_page_of_a_run_that_did_not_look_says_nothing_of_leakage(
    inputs: PageInputs, tmp_path: Path
) -> None:
    gone = replace(inputs, leakage=tmp_path / "not there")
    for found in (inputs, gone):
        assert "Leakage" not in write_page(tmp_path, found).read_text()
