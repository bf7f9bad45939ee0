"""The answers of several models to the same questions, with their pictures, for a page."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, read_json_lines
from icons_repro.core.integrity import MANIFEST
from icons_repro.report.sheets import UNREADABLE, Load, build_sheets
from icons_repro.report.strata import shares

MOST_QUESTIONS = 4000
BUDGET = 8_000_000
"""Bytes of the questions' pictures."""
MOST_TEXT = 400
RIGHT = 0.5
"""A score from here on counts as right: benchmarks with several annotators give shares."""


@dataclass(frozen=True)
class Question:
    """One question, and what each model said."""

    benchmark: str
    row: Mapping[str, Any]
    """Of the first model's answers."""
    given: tuple[str | None, ...]
    right: tuple[int | None, ...]
    """1, 0, or None where the benchmark does not score one by one."""


@dataclass(frozen=True)
class AnswerBook:
    """What the browser of answers shows."""

    data: Mapping[str, Any]
    asked: int
    """How many questions there are; fewer are shown where they are too many."""
    shown: int
    without_pictures: tuple[str, ...]
    """Benchmarks whose pictures do not lie on this disk as files of ours."""


def answer_book(evaluations: Mapping[str, Path], start: str = "") -> AnswerBook | None:
    """Return the questions that all models were asked; None without any.

    `evaluations` maps a model's name to its evaluate directory; the first is the run itself.
    `start` is the filter of changes that the browser begins with.
    """
    questions = list(asked(evaluations))
    if not questions:
        return None
    shown = to_show(questions)
    benchmarks = list(dict.fromkeys(q.benchmark for q in questions))
    files = benchmark_files(next(iter(evaluations.values())))
    pictures = {name: Pictures.of(files, name) for name in benchmarks}
    sheets, image = _sheets(shown, pictures)
    data = {
        "models": list(evaluations),
        "benchmarks": benchmarks,
        "benchmark": [benchmarks.index(q.benchmark) for q in shown],
        "id": [str(q.row["question_id"]) for q in shown],
        "question": [cut(q.row.get("question")) for q in shown],
        "answer": [cut(q.row.get("answer")) for q in shown],
        "given": [text for q in shown for text in q.given],
        "right": [mark for q in shown for mark in q.right],
        "image": image,
        "pictures": sheets,
        "start": start,
    }
    missing = tuple(name for name in benchmarks if pictures[name] is None)
    return AnswerBook(data, len(questions), len(shown), missing)


def asked(evaluations: Mapping[str, Path]) -> Iterator[Question]:
    """Yield each benchmark's questions that every model has an answer to, in their order."""
    folders = list(evaluations.values())
    for name in [path.stem for path in sorted((folders[0] / "answers").glob("*.jsonl"))]:
        paths = [folder / "answers" / f"{name}.jsonl" for folder in folders]
        if not all(path.is_file() for path in paths):
            continue
        models = [{_identity(row): row for row in read_json_lines(path)} for path in paths]
        for identity, first in models[0].items():
            rows = [model.get(identity) for model in models]
            known = [row for row in rows if row is not None]
            if len(known) == len(rows):
                given = tuple(cut(row.get("prediction")) for row in known)
                yield Question(name, first, given, tuple(_right(row.get("score")) for row in known))


def _identity(row: Mapping[str, Any]) -> tuple[Any, str, str]:
    return row.get("position"), str(row.get("question_id")), str(row.get("question"))


def _right(score: Any) -> int | None:
    return int(score >= RIGHT) if isinstance(score, int | float) else None


def cut(value: Any) -> str:
    """Return a value as text of bounded length."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "" if value is None else str(value)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def to_show(questions: Sequence[Question], most: int = MOST_QUESTIONS) -> list[Question]:
    """Return all, or `most` drawn alike from each benchmark and each pattern of right and wrong."""
    if len(questions) <= most:
        return list(questions)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        groups[question.benchmark, question.right].append(place)
    counts = shares([len(places) for places in groups.values()], most)
    rng = np.random.default_rng(0)
    kept = [
        rng.choice(places, count, replace=False)
        for places, count in zip(groups.values(), counts, strict=True)
    ]
    return [questions[place] for place in np.sort(np.concatenate(kept)).tolist()]


def benchmark_files(evaluation: Path) -> Path | None:
    """Return the folder with the parquet files that an evaluate step asked; None for the hub's."""
    manifest = read_json(evaluation / MANIFEST) or {}
    world = manifest.get("inputs", {}).get("world")
    if world:
        return evaluation.resolve().parents[1] / "world" / str(world) / "benchmarks"
    for path in sorted((evaluation / "tasks").glob("*.yaml")):
        return _data_folder(path)
    return None


def _data_folder(task: Path) -> Path | None:
    """Return the folder of the files that a local task's description names."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads lmms-eval's `!function` as text: nothing is imported."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    try:
        described = yaml.load(task.read_text(), Loader)
        files = described["dataset_kwargs"]["data_files"]["test"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    if not isinstance(files, str):
        return None
    return Path(re.sub(r"\[([*?[])\]", r"\1", files)).parent  # `datasets` reads it as a pattern


class Pictures:
    """The pictures of one benchmark's parquet file, by position."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        table = pq.read_table(path, columns=["image", "question_id"])
        self.images, self.ids = table["image"], table["question_id"]

    @classmethod
    def of(cls, folder: Path | None, name: str) -> Pictures | None:
        """Open a benchmark's file; None where there is none with pictures."""
        import pyarrow as pa

        path = folder / f"{name}.parquet" if folder else None
        if path is None or not path.is_file():
            return None
        try:
            return cls(path)
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return None

    def load(self, position: int, question_id: str) -> Any:
        """Decode the picture of a question. Raises `DataError` if it is not this question's."""
        from icons_repro.core.pictures import open_picture

        what = f"of question {question_id} in {self.path}"
        if not 0 <= position < len(self.ids) or str(self.ids[position].as_py()) != question_id:
            raise DataError(f"picture {what}: the file has another question there")
        found = self.images[position].as_py()
        content = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(content, bytes):
            raise DataError(f"picture {what}: none in the file")
        return open_picture(io.BytesIO(content), what)


def _sheets(
    shown: Sequence[Question], pictures: Mapping[str, Pictures | None]
) -> tuple[dict[str, Any], list[int]]:
    """Return sheets, and each question's number in them; one picture is drawn once."""
    loads: dict[str, Load] = {}
    names = []
    for question in shown:
        file, row = pictures[question.benchmark], question.row
        position, identity = row.get("position"), str(row.get("question_id"))
        if file is None or not isinstance(position, int):
            names.append("")
            continue
        name = str(row.get("cluster") or f"{question.benchmark} {position}")
        loads.setdefault(name, partial(file.load, position, identity))
        names.append(name)
    sheets, numbers = build_sheets(list(loads.values()), BUDGET)
    number = dict(zip(loads, numbers, strict=True)) | {"": UNREADABLE}
    return sheets.to_json(), [number[name] for name in names]
