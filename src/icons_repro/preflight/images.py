"""Decode every image of a pool once, in parallel; a second look takes up where the first ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.progress import bar
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable
from icons_repro.data.validation import check_image

CHUNK = 2048
"""Rows decoded between two lines of the log."""


def decode_all(table: RecordTable, root: Path, log: Path, workers: int) -> tuple[int, Counter[str]]:
    """Decode the images of every usable row; return how many rows, and bad images by reason.

    `log` gets one JSON line for each chunk of rows, with its bad images; chunks that it holds
    already are not decoded again. Delete it to start anew.
    """
    done = {line["start"]: line["bad"] for line in _read(log)}
    rows = np.flatnonzero(table.usable)
    starts = [s for s in range(0, len(table), CHUNK) if s not in done]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        ProcessPoolExecutor(max(1, workers)) as pool,
        log.open("a") as file,
        bar("decoding images", len(starts), "chunk") as decoded,
    ):
        jobs = ((str(table.path), str(root), start) for start in starts)
        for batch in _batched(jobs, 8 * max(1, workers)):
            for start, bad in pool.map(_decode_chunk, batch):
                done[start] = bad
                file.write(json.dumps({"start": start, "bad": bad}) + "\n")
                file.flush()
                decoded.update(1)
    reasons = Counter(item["reason"] for bad in done.values() for item in bad)
    return len(rows), reasons


def _decode_chunk(job: tuple[str, str, int]) -> tuple[int, list[dict[str, Any]]]:
    path, root, start = job
    table = RecordTable(Path(path))
    images = ImageFolder(Path(root), replace(table.policy, check_images="decode"))
    bad = []
    for position in range(start, min(start + CHUNK, len(table))):
        for image in table[position].images:
            if problem := check_image(images, image):
                bad.append({"row": position, "image": image, **problem.as_dict()})
    return start, bad


def _read(log: Path) -> Iterator[dict[str, Any]]:
    """Yield whole lines; a line cut by a killed process is decoded again."""
    for line in log.read_text().splitlines() if log.is_file() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch
