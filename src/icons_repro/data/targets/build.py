"""Draw target rows, leave out what the test split shows, write both down."""

from __future__ import annotations

import hashlib
import io
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.files import write_json
from icons_repro.core.pictures import whole_images_only
from icons_repro.data.targets.builders import BUILDERS, Builder
from icons_repro.data.targets.questions import Question
from icons_repro.data.targets.sources import BenchmarkRows

log = logging.getLogger(__name__)
BLOCK = 64


def choose_tasks(counts: Mapping[str, int], test_rows: Sequence[str]) -> list[str]:
    """Return the tasks to build: those named in `counts`, less those that would show test rows.

    A benchmark whose only public rows are its test rows is taken only if `test_rows` names it.

    Raises:
        ConfigError: a name that has no builder.
    """
    unknown = sorted((set(counts) | set(test_rows)) - set(BUILDERS))
    if unknown:
        raise ConfigError(f"no builder for the target task {unknown[0]}; known: {list(BUILDERS)}.")
    return [t for t in counts if not BUILDERS[t].tests_itself or t in test_rows]


def build_task(task: str, count: int, seed: int, folder: Path, out: Path) -> dict[str, Any]:
    """Write `out/TASK.json` and its images below `out/images/TASK`; return the statement on it.

    `count` rows are drawn at random from those that can be asked; an image that the test split
    shows too, pixel for pixel, is left out with all its questions. `folder` holds local copies of
    the sources; what is not there is fetched from the hub.

    Raises:
        UserError: the rows are neither here nor to be had.
        DataError: a file is not what it should be, or no row is left.
    """
    builder = BUILDERS[task]
    rows = builder.rows.open(folder)
    shown = None if builder.tests_itself else TestSplit.read(builder.test.open(folder), task)
    rng = np.random.default_rng([seed, zlib.crc32(task.encode())])
    asked = {i: q for i, row in enumerate(rows.rows) if (q := builder.ask(row))}
    keys = rows.image_keys()
    pictured = [i for i in asked if keys[i] is not None]
    excluded: Counter[str] = Counter(
        no_answer=len(rows.rows) - len(asked), no_image=len(asked) - len(pictured)
    )
    written = []
    order = rng.permutation(np.array(pictured, dtype=np.int64))
    for i, image in tqdm(drawn(rows, order), f"rows of {task}", count, leave=False, unit="row"):
        digest = pixels_hash(image)
        reason = "unreadable_image" if digest is None else ""
        if shown and digest in shown.images:
            again = (digest, wording(rows.rows[i])) in shown.questions
            reason = "test_image_and_question" if again else "test_image"
        if reason:
            excluded[reason] += 1
            continue
        assert digest is not None
        name = save_image(image, digest, out / "images" / task)
        written.append(llava_row(f"{task}-{i}", f"{task}/{name}", asked[i]))
        if len(written) == count:
            break
    if not written:
        raise DataError(f"target task {task}: no row of {builder.rows.name} is left: {excluded}.")
    write_json(out / f"{task}.json", written)
    content = (out / f"{task}.json").read_bytes()
    statement = {
        "from": builder.rows.name,
        "tested_on": builder.test.name,
        "rows": len(written),
        "wanted": count,
        "of": len(rows.rows),
        "left_out": dict(excluded),
        "test_images": len(shown.images) if shown else None,
        "overlap": overlap(builder, excluded),
        "seed": seed,
        "blake2b": hashlib.blake2b(content, digest_size=16).hexdigest(),
    }
    if len(written) < count:
        log.warning("target task %s: %d rows, %d were wanted", task, len(written), count)
    return statement


def overlap(builder: Builder, excluded: Mapping[str, int]) -> str:
    """Return one sentence on what the rows share with the test split."""
    if builder.tests_itself:
        return "these rows are the benchmark's test rows: its score is not held out"
    dropped = excluded.get("test_image", 0) + excluded.get("test_image_and_question", 0)
    return f"none: {dropped} drawn rows showed a test image and were left out"


@dataclass
class TestSplit:
    """What a test split shows: pixels, and pixels with a question."""

    __test__ = False  # not a test class
    images: set[str] = field(default_factory=set)
    questions: set[tuple[str | None, str]] = field(default_factory=set)

    @classmethod
    def read(cls, rows: BenchmarkRows, task: str) -> TestSplit:
        """Hash every distinct image of a split; a broken image raises `DataError`."""
        keys = rows.image_keys()
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key is not None}
        places = sorted(first.values())
        digests: dict[Any, str] = {}
        bar = tqdm(total=len(places), desc=f"test images of {task}", unit="image", leave=False)
        # held for all threads: what one of them restores must not let another read a cut image
        with whole_images_only(), bar, ThreadPoolExecutor() as pool:
            for start in range(0, len(places), BLOCK):
                block = places[start : start + BLOCK]
                for i, digest in zip(block, pool.map(pixels_hash, rows.images(block)), strict=True):
                    if digest is None:
                        raise DataError(f"row {i} of the test split of {task} is no image.")
                    digests[keys[i]] = digest
                bar.update(len(block))
        pairs = {(digests.get(k), wording(r)) for k, r in zip(keys, rows.rows, strict=True)}
        return cls(set(digests.values()), pairs)


def drawn(rows: BenchmarkRows, order: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yield rows with their images in a given order, read block by block."""
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK].tolist()
        yield from zip(block, rows.images(block), strict=True)


def pixels_hash(image: bytes) -> str | None:
    """Return a hash of an image's RGB pixels, whatever their encoding; None if unreadable."""
    try:
        with whole_images_only(), Image.open(io.BytesIO(image)) as opened:
            rgb = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    size = f"{rgb.width}x{rgb.height}".encode()
    return hashlib.blake2b(size + rgb.tobytes(), digest_size=16).hexdigest()


def wording(row: Mapping[str, Any]) -> str:
    """Return a question without regard to case and spacing."""
    return " ".join(str(row["question"]).lower().split())


def save_image(image: bytes, digest: str, folder: Path) -> str:
    """Write the bytes as they are, under their pixels' hash; return the file's name."""
    with Image.open(io.BytesIO(image)) as opened:
        suffix = str(opened.format).lower()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{digest}.{suffix}"
    (folder / name).write_bytes(image)
    return name


def llava_row(name: str, image: str, question: Question) -> dict[str, Any]:
    """Return a row in LLaVA's schema; MME's sub-task goes into `category`."""
    row: dict[str, Any] = {
        "id": name,
        "image": image,
        "conversations": [
            {"from": "human", "value": f"<image>\n{question.text}"},
            {"from": "gpt", "value": question.answer},
        ],
    }
    return row | ({"category": question.category} if question.category else {})
