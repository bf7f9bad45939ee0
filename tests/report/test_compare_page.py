from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_page import Balanced, data_of
from whole_run import Cache, write_whole_run

from icons_repro.report.__main__ import main
from icons_repro.report.compare import compare
from icons_repro.report.compare_page import write_compare_page
from icons_repro.report.gather import scored


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    cache = Cache.fill(folder / "cache", small_world)
    for name in ("icons", "random"):
        write_whole_run(folder / "runs", cache, name)
    return folder / "runs"


def test_rows_of_both_of_one_and_of_neither_are_told_apart(runs: Path, tmp_path: Path) -> None:
    a, b = runs / "icons-b0.2-s0", runs / "random-b0.2-s0"
    text = write_compare_page(tmp_path / "c.html", compare(a, b)).read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    data = data_of(text, "rows-data")
    chosen = [scored(Path(json.loads((run / "results.json").read_text())["selection"])).chosen
              for run in (a, b)]  # fmt: skip
    mine, theirs = np.array(data["flags"]) & 1, np.array(data["by"])
    assert mine.tolist() == chosen[0].astype(int).tolist()
    assert theirs.tolist() == chosen[1].astype(int).tolist()
    both = int((mine & theirs).sum())
    assert f'<td data-sort="{both}">{both}</td>' in text
    assert data["others"] == ["random"]


def test_votes_and_scores_stand_beside_each_other(runs: Path, tmp_path: Path) -> None:
    found = compare(runs / "random-b0.2-s0", runs / "icons-b0.2-s0")
    text = write_compare_page(tmp_path / "c.html", found).read_text()
    (beside,) = data_of(text, "rows-data")["beside"]
    assert beside["name"] == "icons"
    assert max(beside["votes"]) <= 3


def test_answers_of_both_begin_with_those_that_differ(runs: Path, tmp_path: Path) -> None:
    found = compare(runs / "icons-b0.2-s0", runs / "random-b0.2-s0")
    data = data_of(write_compare_page(tmp_path / "c.html", found).read_text(), "answers-data")
    assert (data["models"], data["start"]) == (["icons", "random"], "differ")
    assert min(data["image"]) >= 0


def test_the_overall_difference_is_said_with_its_interval(runs: Path, tmp_path: Path) -> None:
    found = compare(runs / "icons-b0.2-s0", runs / "random-b0.2-s0")
    text = write_compare_page(tmp_path / "c.html", found).read_text()
    assert "A beats B with a probability of" in text
    assert 'aria-label="A - B:' in text


def test_a_comparison_whose_files_are_gone_shows_what_is_left(runs: Path, tmp_path: Path) -> None:
    found = compare(runs / "icons-b0.2-s0", runs / "random-b0.2-s0")
    pool = runs.parent / "cache" / "pool" / "p0" / "records.arrow"
    moved = pool.rename(tmp_path / "records.arrow")
    try:
        text = write_compare_page(tmp_path / "c.html", found).read_text()
    finally:
        moved.rename(pool)
    assert 'id="rows-data"' not in text
    assert "rows kept" in text.lower()


def test_the_command_writes_the_page(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    main(
        ["compare", "--page", str(page), str(runs / "icons-b0.2-s0"), str(runs / "random-b0.2-s0")]
    )
    assert page.is_file()
