"""Per-question answers: what lmms-eval logged, in rows from which the score can be recomputed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icons_repro.core.files import write_json

ID_FIELDS = ("question_id", "questionId", "index", "Index", "id")


def answer_rows(samples: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Return one row for each question, in the benchmark's order.

    A row has `position`, `question_id`, `question`, `answer`, `prediction`, `score` (the task's own
    value for the metric; None if it keeps none) and, where the benchmark has them, `category` and
    `skill`. Rows that the metric does not cover (MME's cognition questions) are left out.
    """
    rows = []
    for sample in sorted(samples, key=lambda s: int(s["doc_id"])):
        if metric not in sample:
            continue
        doc = sample["doc"]
        row = {
            "position": int(sample["doc_id"]),
            "question_id": str(next((doc[f] for f in ID_FIELDS if f in doc), sample["doc_id"])),
            "question": doc.get("question", _prompt(sample)),
            "answer": _truth(sample),
            "prediction": _first(sample["filtered_resps"]),
            "score": _score(sample[metric]),
        }
        row |= {field: doc[field] for field in ("category", "skill") if field in doc}
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    os.replace(part, path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read what `write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class AnswerSlices:
    """The answers of a benchmark's slices, one file each, until the benchmark is scored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, part: int, of: int) -> Path:
        return self.folder / f"{part:05d}-of-{of:05d}.json"

    def has(self, part: int, of: int) -> bool:
        """Whether the slice is answered."""
        return self._path(part, of).is_file()

    def write(self, part: int, of: int, texts: Mapping[int, str]) -> None:
        """Keep a slice's answers by request number."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(part, of), dict(texts))

    def read(self) -> dict[int, str]:
        """Return all answers that are there."""
        texts: dict[int, str] = {}
        for path in sorted(self.folder.glob("*-of-*.json")):
            texts |= {int(row): text for row, text in json.loads(path.read_text()).items()}
        return texts


def judge_gave_up(samples: Sequence[Mapping[str, Any]], metric: str) -> int:
    """Return how many answers carry a judge's failure mark instead of a verdict."""
    marks = 0
    for sample in samples:
        value = sample.get(metric)
        if isinstance(value, Mapping):
            scores = value.get("scores")
            failed = scores is not None and min(scores) == -1
            marks += failed or value.get("eval_model") in ("", "Failed Request")
    return marks


def _truth(sample: Mapping[str, Any]) -> Any:
    """Return the right answer; of several annotators' answers, the most frequent.

    VQAv2, VizWiz and TextVQA name a column `answer` that their data lack: lmms-eval then logs the
    column's name as the target.
    """
    doc, target = sample["doc"], sample["target"]
    if target != "answer" or "answer" in doc or not doc.get("answers"):
        return target
    answers = [a["answer"] if isinstance(a, Mapping) else a for a in doc["answers"]]
    return Counter(answers).most_common(1)[0][0]


def _prompt(sample: Mapping[str, Any]) -> str:
    arguments = sample.get("arguments") or [""]
    return str(arguments[0])


def _first(responses: Any) -> Any:
    while isinstance(responses, list) and responses:
        responses = responses[0]
    return responses


def _score(value: Any) -> Any:
    """Return a number, LLaVA-W's pair of points, or None."""
    if isinstance(value, Mapping):
        value = value.get("score", value.get("scores"))
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [float(v) for v in value]
    return None
