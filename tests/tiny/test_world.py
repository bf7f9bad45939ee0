"""What a world written to disk promises, read back from its files."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.tiny import world as world_module
from icons_repro.tiny.benchmarks import TASKS
from icons_repro.tiny.corpus import make_corpus
from icons_repro.tiny.model import tiny_vocabulary
from icons_repro.tiny.pool import make_pool, source_counts
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.streams import image_digest, question_digest
from icons_repro.tiny.world import build_world

SMALL = WorldSettings(seed=7, pool_size=1200, validation_rows=20, test_rows=60)
World = tuple[Path, dict[str, Any]]
Hashes = tuple[set[str], set[str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the folder and the statement of a world of `SMALL`."""
    folder = tmp_path_factory.mktemp("world")
    return folder, build_world(folder, SMALL)


def _json(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def _benchmark_rows(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "benchmarks").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _hashes_of_records(folder: Path, rows: list[dict[str, Any]]) -> Hashes:
    images, questions = set[str](), set[str]()
    for row in rows:
        image = ""
        if "image" in row:
            image = image_digest(_pixels((folder / "images" / row["image"]).read_bytes()))
            images.add(image)
        for turn in row["conversations"][::2]:
            text = turn["value"].replace("<image>", "").strip()
            questions.add(question_digest(image, text))
    return images, questions


def _hashes_of_benchmarks(folder: Path) -> Hashes:
    rows = [(image_digest(_pixels(r["image"]["bytes"])), r) for r in _benchmark_rows(folder)]
    return {d for d, _ in rows}, {question_digest(d, r["question"]) for d, r in rows}


def test_pool_validation_and_test_share_no_image_and_no_question(world: World) -> None:
    folder, _ = world
    targets = [r for t in TASKS for r in _json(folder / "targets" / f"{t.name}.json")]
    splits = [
        _hashes_of_records(folder, _json(folder / "pool.json")),
        _hashes_of_records(folder, targets),
        _hashes_of_benchmarks(folder),
    ]
    for (images, questions), (other_images, other_questions) in combinations(splits, 2):
        assert not images & other_images
        assert not questions & other_questions


def test_pretraining_pictures_occur_in_no_other_split(world: World) -> None:
    folder, _ = world
    corpus = make_corpus(rows=3000, seed=0)
    seen = {image_digest(d.pixels) for d in corpus if d.pixels is not None}
    everything = {image_digest(_pixels(p.read_bytes())) for p in folder.rglob("*.png")}
    assert not seen & (everything | _hashes_of_benchmarks(folder)[0])


def test_a_shared_picture_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = world_module.rows_of
    monkeypatch.setattr(
        world_module, "rows_of", lambda task, split, rows, s: real(task, "test", rows, s)
    )
    with pytest.raises(DataError, match="occur in two of"):
        build_world(tmp_path / "w", SMALL)
    assert not (tmp_path / "w").exists()


def test_same_settings_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    folder, _ = world
    build_world(tmp_path, SMALL)
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert all((folder / n).read_bytes() == (tmp_path / n).read_bytes() for n in names)


def test_another_seed_gives_fresh_pool_validation_and_test(world: World, tmp_path: Path) -> None:
    folder, _ = world
    build_world(tmp_path, replace(SMALL, seed=8))
    _, questions = _hashes_of_benchmarks(folder)
    _, other = _hashes_of_benchmarks(tmp_path)
    assert len(questions & other) < 0.1 * len(questions)
    assert (folder / "pool.json").read_bytes() != (tmp_path / "pool.json").read_bytes()


def test_sources_stand_in_contiguous_blocks_with_text_only_rows_last(world: World) -> None:
    folder, statement = world
    truth = pq.read_table(folder / "truth.parquet").to_pylist()
    blocks = [(name, len(list(rows))) for name, rows in groupby(r["source"] for r in truth)]
    assert dict(blocks) == statement["pool"]["by_source"]
    assert len(blocks) == len(dict(blocks))
    has_image = ["image" in row for row in _json(folder / "pool.json")]
    assert has_image == sorted(has_image, reverse=True)


def test_pool_is_a_miniature_of_a_real_mixture(world: World) -> None:
    folder, _ = world
    pool = _json(folder / "pool.json")
    assert len(pool) == SMALL.pool_size
    assert len({row["id"] for row in pool}) < len(pool)
    assert any(len(row["conversations"]) > 2 for row in pool)
    assert all(row["conversations"][0]["value"].startswith("<image>\n") for row in pool[:10])


@pytest.mark.parametrize("share", [0.17, 0.45, 1.0])
def test_target_share_is_met_exactly(share: float) -> None:
    counts = source_counts(WorldSettings(pool_size=2000, target_share=share))
    assert sum(counts.values()) == 2000
    on_target = ("easyvqa", "counting", "choices", "spatial", "presence", "letters", "digits")
    assert sum(counts[name] for name in (*on_target, "charts")) == round(share * 2000)


def test_mislabelling_changes_only_the_answers_of_the_rows_it_flags() -> None:
    settings = replace(SMALL, mislabelled_share=0.3)
    clean = make_pool(replace(settings, mislabelled_share=0.0))
    for noisy_row, clean_row in zip(make_pool(settings), clean, strict=True):
        noisy, truth = noisy_row.draft.turns, clean_row.draft.turns
        assert [q.text for q in noisy] == [q.text for q in truth]
        for told, right in zip(noisy, truth, strict=True):
            assert (told.answer != right.answer) == noisy_row.mislabelled


def test_presence_questions_do_not_tell_their_answer(world: World) -> None:
    folder, statement = world
    rows = pq.read_table(folder / "benchmarks" / "tiny_pope.parquet").to_pylist()
    by_text: dict[str, Counter[str]] = {}
    for row in rows:
        by_text.setdefault(row["question"], Counter())[row["answer"]] += 1
    assert all(counts["yes"] == counts["no"] for counts in by_text.values())
    assert statement["benchmarks"]["tiny_pope"]["blind"] == 0.5


def test_no_benchmark_is_answered_well_blindly(world: World) -> None:
    _, statement = world
    assert all(0 < stated["blind"] <= 0.5 for stated in statement["benchmarks"].values())


def test_every_word_of_a_world_is_a_token(world: World) -> None:
    folder, _ = world
    records = [_json(p) for p in (folder / "targets").glob("*.json")] + [
        _json(folder / "pool.json")
    ]
    told = [turn["value"] for rows in records for row in rows for turn in row["conversations"]]
    asked = [f"{row['question']} {row['answer']}" for row in _benchmark_rows(folder)]
    words = {word for text in told + asked for word in text.replace("?", " ? ").split()}
    assert words <= set(tiny_vocabulary())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pool_size", 10),
        ("target_share", 0.0),
        ("target_share", 1.2),
        ("mislabelled_share", 1.0),
        ("validation_rows", 0),
        ("test_rows", 100_000),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        WorldSettings(**{field: value})


def test_pretraining_prompts_open_with_is_or_are_if_their_answer_is_yes_or_no() -> None:
    turns = [turn for draft in make_corpus(rows=2000, seed=0) for turn in draft.turns]
    opened = {turn.text: turn.answer in ("yes", "no") for turn in turns}
    assert {text.split()[:1] in (["is"], ["are"]) for text in opened} == {True, False}
    assert all((text.split()[:1] in (["is"], ["are"])) == yes_no for text, yes_no in opened.items())
    plain = ["focus" in text for text, yes_no in opened.items() if yes_no]
    assert 0.1 < 1 - sum(plain) / len(plain) < 0.5
