"""Upstream's own tasks and metric code, on small local files with the real columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from evaluation_samples import picture

from icons_repro.evaluation.relative import read_answers
from icons_repro.evaluation.runner import evaluate
from icons_repro.evaluation.settings import BenchmarkSettings

POPE = BenchmarkSettings("pope", metric="pope_f1_score", statistic="f1")
MME = BenchmarkSettings("mme", metric="mme_perception_score", multiplier=1.0, statistic="mme")


def local(benchmark: BenchmarkSettings, rows: list[dict[str, Any]], folder: Path) -> Any:
    """The upstream task, its data replaced by `rows` (each gets a picture)."""
    rng = np.random.default_rng(0)
    table = datasets.Dataset.from_list([{**row, "image": picture(rng)} for row in rows])
    file = folder / f"{benchmark.name}.parquet"
    table.cast_column("image", datasets.Image()).to_parquet(str(file))
    kwargs = {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")}
    options = {"dataset_path": "parquet", "dataset_kwargs": kwargs}
    return BenchmarkSettings(**{**vars(benchmark), "options": options})


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the model say what the test wants, question by question."""
    from icons_repro.evaluation.lmms_model import LlavaLmms

    def prepare(words: list[str]) -> None:
        def answer(self: Any, requests: Any, rows: Any, decoding: Any) -> list[str]:
            return [words[requests[row].args[3]] for row in rows]

        monkeypatch.setattr(LlavaLmms, "_answer", answer)

    return prepare


def test_popes_own_f1_is_reported_and_follows_from_the_answers(
    tmp_path: Path, tiny_base: Path, says: Any
) -> None:
    truth = ["yes", "no", "yes", "no", "yes", "no"]
    rows = [
        {"question_id": str(i), "question": f"is it {i}?", "answer": a, "category": "random"}
        for i, a in enumerate(truth)
    ]
    says(["Yes", "yes", "no", "No", "yes", "dog"])
    pope = local(POPE, rows, tmp_path)
    result = evaluate(tiny_base, None, [pope], None, tmp_path / "out")["pope"]
    precision, recall = 2 / 3, 2 / 3
    assert result["score"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert result["n"] == 6
    answers = read_answers(tmp_path / "out", "pope")
    assert answers is not None
    assert answers.units.score() * 100 == pytest.approx(result["score"])


def test_mme_counts_perception_only_in_points(tmp_path: Path, tiny_base: Path, says: Any) -> None:
    rows = [
        {"question_id": image, "question": f"{i}?", "answer": "Yes", "category": category}
        for i, (image, category) in enumerate(
            [("a", "count"), ("a", "count"), ("b", "count"), ("b", "count"),
             ("c", "code_reasoning"), ("c", "code_reasoning")]
        )
    ]  # fmt: skip
    says(["yes", "yes", "yes", "no", "yes", "yes"])
    result = evaluate(tiny_base, None, [local(MME, rows, tmp_path)], None, tmp_path / "out")["mme"]
    assert result["score"] == pytest.approx(75.0 + 50.0), "accuracy 75, accuracy+ 50"
    assert result["n"] == 4
    assert result["stderr"] is not None
