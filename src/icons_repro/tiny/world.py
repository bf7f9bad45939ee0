"""Write a tiny world: pool, images, target tasks, benchmarks, and the statement about them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.core.progress import watched
from icons_repro.core.step import identity_of
from icons_repro.tiny.benchmarks import Task
from icons_repro.tiny.blind import BlindAnswerer
from icons_repro.tiny.mixtures import rows_of, tasks_of
from icons_repro.tiny.pool import PoolRow, make_pool, record_of
from icons_repro.tiny.questions import Question
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.sources import Draft
from icons_repro.tiny.streams import image_digest, question_digest

logger = logging.getLogger(__name__)

TaskDrafts = dict[str, list[Draft]]
"""Drafts of each task."""


def build_world(out: Path, settings: WorldSettings) -> dict[str, Any]:
    """Write a world below `out` and return its statement (also `world.json`).

    Writes `pool.json`, `images/`, `targets/<task>.json`, `benchmarks/<task>.parquet`,
    `truth.parquet` and `world.json`; the same settings give the same bytes.

    Raises:
        DataError: a test or validation question or picture also occurs elsewhere.
    """
    pool = make_pool(settings)
    count = settings.validation_rows
    tasks = tasks_of(settings)
    validation = {task.name: rows_of(task, "validation", count, settings) for task in tasks}
    test = {task.name: rows_of(task, "test", settings.test_rows, settings) for task in tasks}
    _check_disjoint([row.draft for row in pool], _flat(validation), _flat(test))

    out.mkdir(parents=True, exist_ok=True)
    _write_pool(out, pool)
    for task in tasks:
        _write_target(out, task, validation[task.name])
        _write_benchmark(out, task, test[task.name])
    statement = _statement(settings, pool, validation, test)
    statement["sha256"] = _file_hashes(out)
    (out / "world.json").write_text(json.dumps(statement, indent=1) + "\n")
    logger.info("tiny world: %d pool rows, %d tasks", len(pool), len(tasks))
    return statement


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode uint8 `[H, W, 3]` as a lightly compressed PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def write_images(folder: Path, pictures: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write each picture once below `folder`, by its relative path."""
    written: set[str] = set()
    for name, pixels in watched(pictures, "writing pictures", unit="picture"):
        if name in written:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(pixels))
        written.add(name)


def write_json_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON array with one row on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


def _write_pool(out: Path, pool: Sequence[PoolRow]) -> None:
    write_json_rows(out / "pool.json", (row.record for row in pool))
    drawn = [(row.record["image"], row.draft.pixels) for row in pool if "image" in row.record]
    write_images(out / "images", ((name, px) for name, px in drawn if px is not None))
    columns = {
        "position": pa.array(range(len(pool)), pa.int64()),
        "skill": [row.draft.skill for row in pool],
        "source": [row.source for row in pool],
        "on_target": [row.on_target for row in pool],
        "mislabelled": [row.mislabelled for row in pool],
    }
    pq.write_table(pa.table(columns), out / "truth.parquet")


def _write_target(out: Path, task: Task, drafts: Sequence[Draft]) -> None:
    rows = []
    for number, draft in enumerate(drafts):
        record = record_of(draft, task.name, number)
        rows.append(record | {"category": draft.skill})
        assert draft.pixels is not None
        write_images(out / "images", [(record["image"], draft.pixels)])
    write_json_rows(out / "targets" / f"{task.name}.json", rows)


def _write_benchmark(out: Path, task: Task, drafts: Sequence[Draft]) -> None:
    rows = []
    for number, draft in enumerate(drafts):
        assert draft.pixels is not None
        name = f"{task.name}/{image_digest(draft.pixels)[:12]}.png"
        rows.append(
            {
                "question_id": f"{task.name}_{number:05d}",
                "image": {"bytes": png_bytes(draft.pixels), "path": name},
                "question": draft.turns[0].text,
                "answer": draft.turns[0].answer,
                "skill": draft.skill,
                "category": task.style if task.style != "open" else draft.skill,
            }
        )
    path = out / "benchmarks" / f"{task.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _flat(rows: TaskDrafts) -> list[Draft]:
    return [draft for drafts in rows.values() for draft in drafts]


def _asked(drafts: Sequence[Draft]) -> list[Question]:
    return [turn for draft in drafts for turn in draft.turns]


def _digests(drafts: Iterable[Draft]) -> tuple[set[str], set[str]]:
    """Return the image digests and the question digests of some rows."""
    images, questions = set[str](), set[str]()
    for draft in drafts:
        image = "" if draft.pixels is None else image_digest(draft.pixels)
        images |= {image} - {""}
        questions |= {question_digest(image, turn.text) for turn in draft.turns}
    return images, questions


def _check_disjoint(*splits: list[Draft]) -> None:
    digests = [_digests(split) for split in splits]
    for i, (images, questions) in enumerate(digests):
        for other_images, other_questions in digests[i + 1 :]:
            if shared := (images & other_images) | (questions & other_questions):
                raise DataError(
                    f"tiny world: {len(shared)} pictures or questions occur in two of pool, "
                    f"validation and test (such as {min(shared)}); try another seed"
                )


def _statement(
    settings: WorldSettings, pool: Sequence[PoolRow], validation: TaskDrafts, test: TaskDrafts
) -> dict[str, Any]:
    clean = [turn for row in pool if not row.mislabelled for turn in row.draft.turns]
    blind = {name: BlindAnswerer(clean, _asked(rows)) for name, rows in validation.items()}
    benchmarks = {
        task.name: {
            "style": task.style,
            "validation_rows": len(validation[task.name]),
            "test_rows": len(test[task.name]),
            "skills": dict(Counter(draft.skill for draft in test[task.name])),
            "blind": round(blind[task.name].score(_asked(test[task.name])), 4),
        }
        for task in tasks_of(settings)
    }
    return {
        "settings": identity_of(settings),
        "pool": {
            "rows": len(pool),
            "text_only": sum(row.draft.pixels is None for row in pool),
            "multi_turn": sum(len(row.draft.turns) > 1 for row in pool),
            "on_target": sum(row.on_target for row in pool),
            "mislabelled": sum(row.mislabelled for row in pool),
            "distinct_ids": len({row.record["id"] for row in pool}),
            "by_source": dict(Counter(row.source for row in pool)),
            "by_skill": dict(Counter(row.draft.skill for row in pool)),
        },
        "benchmarks": benchmarks,
    }


def _file_hashes(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every written file that is not a picture, by relative path."""
    files = [*out.glob("*.json"), *out.glob("*/*.json"), *out.rglob("*.parquet")]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
        if path.name != "world.json"
    }
