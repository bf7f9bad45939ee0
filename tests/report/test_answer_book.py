from __future__ import annotations

import json
from pathlib import Path

import pytest
from whole_run import Cache

from icons_repro.evaluation.answers import read_rows, write_rows
from icons_repro.report.answer_book import MOST_QUESTIONS, Question, answer_book, to_show
from icons_repro.report.sheets import UNREADABLE


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Cache:
    return Cache.fill(tmp_path_factory.mktemp("cache"), small_world)


@pytest.fixture
def folders(cache: Cache, tmp_path: Path) -> dict[str, Path]:
    inner = Cache(tmp_path)
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "w0").symlink_to(cache.root / "world" / "w0")
    return {"this run": inner.evaluate("icons", 0)[0], "full": inner.evaluate("full", 0)[0]}


def test_every_question_stands_once_with_the_answers_of_all_models(
    folders: dict[str, Path],
) -> None:
    book = answer_book(folders)
    assert book is not None
    data = book.data
    assert (book.asked, book.shown) == (60, 60)
    rows = {name: read_rows(path / "answers" / "tiny_gqa.jsonl") for name, path in folders.items()}
    own = [i for i, b in enumerate(data["benchmark"]) if data["benchmarks"][b] == "tiny_gqa"]
    for place, i in enumerate(own):
        mine, full = (rows[name][place] for name in folders)
        assert data["question"][i] == mine["question"]
        assert data["given"][2 * i : 2 * i + 2] == [mine["prediction"], full["prediction"]]
        assert data["right"][2 * i : 2 * i + 2] == [mine["score"], full["score"]]


def test_pictures_come_from_the_benchmarks_files_and_belong_to_the_question(
    folders: dict[str, Path],
) -> None:
    book = answer_book(folders)
    assert book is not None
    assert min(book.data["image"]) >= 0
    path = folders["this run"] / "answers" / "tiny_gqa.jsonl"
    rows = read_rows(path)
    for other in folders.values():  # the questions are no longer the file's
        moved = [row | {"question_id": f"other {row['position']}"} for row in rows]
        write_rows(other / "answers" / "tiny_gqa.jsonl", moved)
    book = answer_book(folders)
    assert book is not None
    own = book.data["benchmarks"].index("tiny_gqa")
    shown = zip(book.data["benchmark"], book.data["image"], strict=True)
    assert {image for b, image in shown if b == own} == {UNREADABLE}


def test_a_local_folder_of_benchmarks_is_found_through_its_tasks(
    folders: dict[str, Path], cache: Cache
) -> None:
    out = folders["this run"]
    (out / "manifest.json").write_text(json.dumps({"inputs": {}}))
    assert answer_book(folders).data["image"] == [UNREADABLE] * 60  # type: ignore[union-attr]
    (out / "tasks").mkdir()
    parquet = cache.root / "world" / "w0" / "benchmarks" / "tiny_gqa.parquet"
    task = f'doc: !function os.system\ndataset_kwargs:\n  data_files: {{test: "{parquet}"}}\n'
    (out / "tasks" / "tiny_gqa.yaml").write_text(task)
    book = answer_book(folders)
    assert book is not None
    assert min(book.data["image"]) >= 0


def test_benchmarks_without_files_say_so_and_show_placeholders(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        (folder / "manifest.json").unlink()
    book = answer_book(folders)
    assert book is not None
    assert len(book.without_pictures) == 3
    assert set(book.data["image"]) == {UNREADABLE}


def test_questions_that_a_model_was_not_asked_are_left_out(folders: dict[str, Path]) -> None:
    path = folders["full"] / "answers" / "tiny_gqa.jsonl"
    write_rows(path, read_rows(path)[:5])
    book = answer_book(folders)
    assert book is not None
    assert book.asked == 45


def test_no_answers_make_no_book(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    assert answer_book({"this run": tmp_path}) is None


def test_many_questions_are_drawn_alike_from_each_benchmark_and_pattern() -> None:
    many = [Question("a", {"n": i}, ("x",), (1,)) for i in range(20_000)]
    few = [Question("a", {"n": -i}, ("x",), (0,)) for i in range(1, 51)]
    unscored = [Question("b", {"n": 10**6 + i}, ("x",), (None,)) for i in range(9000)]
    shown = to_show([*many, *few, *unscored])
    assert len(shown) == MOST_QUESTIONS
    assert sum(q.right == (0,) for q in shown) == 50
    counts = sum(q.benchmark == "b" for q in shown), sum(q.right == (1,) for q in shown)
    assert abs(counts[0] - counts[1]) <= 1
