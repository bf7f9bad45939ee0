"""Small pools on disk."""

import json
from pathlib import Path
from typing import Any

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records


def row(image: str | None = "a/x.png", answer: str = "yes", **extra: Any) -> dict[str, Any]:
    tag = "<image>\n" if image else ""
    turns = [{"from": "human", "value": f"{tag}is it so"}, {"from": "gpt", "value": answer}]
    return {"id": "0", **({"image": image} if image else {}), "conversations": turns, **extra}


def nested(levels: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(levels):
        tree = [tree]
    return tree


def build(
    rows: list[Any], images: Path, tmp_path: Path, policy: RecordPolicy | None = None
) -> tuple[RecordTable, dict[str, Any]]:
    source = tmp_path / "pool.json"
    source.write_text(json.dumps(rows))
    counts = build_records(source, images, tmp_path, policy)
    return RecordTable(tmp_path / "records.arrow"), counts
