"""Rows with and without an image, as a pool on disk."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark_files import picture

from icons_repro.data.records import build_records

QUESTIONS = ("how many birds", "what color is it", "is it red", "how many fly south")


def row(i: int) -> dict:
    tag = "<image>\n" if i % 4 < 2 else ""
    turns = [
        {"from": "human", "value": f"{tag}{QUESTIONS[i % 4]}?"},
        {"from": "gpt", "value": ("red", "two birds", "it is")[i % 3]},
    ]
    if i % 5 == 0:
        turns += [{"from": "human", "value": "is it"}, {"from": "gpt", "value": "two red"}]
    return {"conversations": turns} | ({"image": f"{i}.png"} if tag else {})


def write_rows(root: Path, n: int) -> None:
    """Write rows 0 .. n - 1, their pictures and their records: two with an image, two without."""
    for i in range(n):
        (root / f"{i}.png").write_bytes(picture(i))
    (root / "pool.json").write_text(json.dumps([row(i) for i in range(n)]))
    build_records(root / "pool.json", root, root)
