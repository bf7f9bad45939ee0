"""What is said of one row is what the choice did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from whole_run import TASKS, Cache, write_whole_run

from icons_repro.core.errors import DataError, UserError
from icons_repro.explain.__main__ import explain, main
from icons_repro.explain.neighbours import nearest, stores_of
from icons_repro.explain.standing import find_row, standing
from icons_repro.gradients.store import GradientStore
from icons_repro.report.gather import scored


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Cache:
    return Cache.fill(tmp_path_factory.mktemp("explain") / "cache", small_world)


@pytest.fixture(scope="module")
def run(cache: Cache) -> Path:
    return write_whole_run(cache.root.parent / "runs", cache)


@pytest.fixture(scope="module")
def selection(run: Path) -> Path:
    return Path(json.loads((run / "results.json").read_text())["selection"])


def test_places_count_the_rows_with_more_influence(selection: Path) -> None:
    found = scored(selection)
    row = standing(selection, "row:17")
    assert [task.task for task in row.tasks] == list(TASKS)
    for task in row.tasks:
        influence = found.influence[task.task]
        assert task.place == 1 + sum(influence > influence[17])
    assert row.votes == sum(bool(task.votes) for task in row.tasks)


def test_the_row_that_would_go_is_the_last_that_was_taken(selection: Path) -> None:
    found = scored(selection)
    left = int(np.flatnonzero(~found.chosen)[0])
    row = standing(selection, f"row:{left}")
    assert not row.chosen
    assert row.order is not None
    assert row.order > row.budget == 60
    last = standing(selection, f"row:{row.across[0]}")
    assert last.chosen
    assert last.order == 60
    assert last.score == row.cut_score
    assert f"grow by {row.order - 60}" in row.distance
    next_row = standing(selection, f"row:{last.across[0]}")
    assert next_row.order == 61
    assert "the last row that was taken would have to go" in next_row.distance


def test_a_method_without_an_order_says_so(cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "random"
    shutil.copytree(cache.select("random", 0.1, 5), out)
    row = standing(out, "row:0")
    assert row.tasks == ()
    if row.order is None:
        assert "no single order" in row.distance


def test_neighbours_have_the_largest_cosines(cache: Cache, run: Path) -> None:
    stores = stores_of(cache.root / "influence" / "i0" / "influence.parquet")
    near = nearest(stores, 17, count=3)
    own = GradientStore.open(stores.train).read(17, 18)[0]
    for task, found in near.items():
        cosines = GradientStore.open(stores.validation / task).read() @ own
        best = np.argsort(-cosines.numpy())[:3].tolist()
        assert [one.position for one in found] == best
        assert found[0].cosine == pytest.approx(float(cosines.max()), abs=1e-5)


def test_the_page_shows_the_row_its_neighbours_and_who_would_go(run: Path, cache: Cache) -> None:
    console = Console(record=True, width=120)
    left = int(np.flatnonzero(~scored(cache.root / "select" / "icons-0.2-0").chosen)[0])
    path = explain(run, f"row:{left}", console)
    key = cache.table[left].key
    assert path == run / "explain" / f"{key}.html"
    text = path.read_text()
    for heading in ("The row", "What each task says", "First to go", "Nearest validation rows"):
        assert f"<h2>{heading}</h2>" in text
    assert "<h3>tiny_pope</h3>" in text
    assert text.count("data:image/webp;base64,") >= 8
    said = console.export_text()
    assert "first to go: row:" in said
    assert key in said


def test_a_key_may_be_shortened_but_not_ambiguous() -> None:
    keys = np.array([b"aa11", b"aa22", b"bb33", b"aa22"], dtype="S32")
    assert find_row(keys, "bb") == (2, ())
    assert find_row(keys, "AA2") == (1, (3,))
    assert find_row(keys, "row:3") == (3, (1,))
    with pytest.raises(UserError, match="2 rows have keys that begin with 'aa'"):
        find_row(keys, "aa")
    for wanted in ("zz", "row:4", "row:x", "", "ü"):
        with pytest.raises(UserError):
            find_row(keys, wanted)


def test_gradients_that_are_gone_are_said_and_the_rest_is_shown(
    run: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = (cache.root / "gradients").rename(cache.root / "elsewhere")
    try:
        main([str(run), "row:3"])
    finally:
        moved.rename(cache.root / "gradients")
    assert "were deleted" in capsys.readouterr().out.replace("\n", " ")


def test_influence_without_stores_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "influence" / "x"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"inputs": {"pool": "p"}}')
    with pytest.raises(DataError, match="without stored gradients"):
        stores_of(folder / "influence.parquet")


def test_what_is_no_run_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Error: .*results"):
        main([str(tmp_path), "row:0"])
