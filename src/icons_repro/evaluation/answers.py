"""Per-question answers: what lmms-eval logged, in rows from which the score can be recomputed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

from icons_repro.core.files import replacing, write_json

ID_FIELDS = ("question_id", "questionId", "index", "Index", "id")


def answer_rows(
    samples: Sequence[Mapping[str, Any]], metric: str, pictures: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Return one row for each question, in the benchmark's order.

    A row has `position`, `question_id`, `question`, `answer`, `prediction`, `score` (the task's own
    value for the metric; None if it keeps none), `cluster` (questions that share it were asked
    about the same picture; None without a picture) and, where the benchmark has them, `category`
    and `skill`. Rows that the metric does not cover (MME's cognition questions) are left out.

    `pictures` maps a question's `doc_id` to `picture_digest`.
    """
    pictures = pictures or {}
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
            "cluster": pictures.get(int(sample["doc_id"])),
        }
        row |= {field: doc[field] for field in ("category", "skill") if field in doc}
        rows.append(row)
    return rows


def picture_digest(images: Sequence[Image]) -> str | None:
    """Return a hash of the pictures of one question, by their pixels; None if it has none.

    Only some benchmarks name their pictures, each in a column of its own (POPE `image_source`, GQA
    `imageId`, VQAv2 `image_id`); ChartQA and AI2D repeat pictures without a name. Pixels tell all.
    """
    if not images:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for image in images:
        digest.update(f"{image.mode}{image.size}".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, whole or not at all."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


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

    def write(
        self, part: int, of: int, texts: Mapping[int, str], pictures: Mapping[int, str]
    ) -> None:
        """Keep a slice's answers by request number, and its `picture_digest`s by `doc_id`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(part, of), {"texts": dict(texts), "pictures": dict(pictures)})

    def read(self) -> tuple[dict[int, str], dict[int, str]]:
        """Return all answers that are there, and the pictures of their questions."""
        texts: dict[int, str] = {}
        pictures: dict[int, str] = {}
        for path in sorted(self.folder.glob("*-of-*.json")):
            found = json.loads(path.read_text())
            texts |= {int(row): text for row, text in found["texts"].items()}
            pictures |= {int(doc): digest for doc, digest in found["pictures"].items()}
        return texts, pictures


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
