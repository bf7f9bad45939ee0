"""A chosen subset made ready to publish: both training formats, and a card that says what it is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from icons_repro.data.records import RecordTable
from icons_repro.data.subset import write_subset

LLAMA_FACTORY = {
    "file_name": "sharegpt.json",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
    },
}
"""The entry that LLaMA-Factory's dataset_info.json needs for `sharegpt.json`."""


def export_subset(table: RecordTable, selection: Path, out: Path, about: str) -> dict[str, int]:
    """Write the subset of a selection folder to `out`; `about` says how it was chosen.

    `subset.json` is the pool's own format (LLaVA's trainer), `sharegpt.json` with
    `dataset_info.json` LLaMA-Factory's; `positions.npy` and `keys.txt` name the rows; `README.md`
    is the card.
    """
    out.mkdir(parents=True, exist_ok=True)
    positions = np.load(selection / "positions.npy")
    write_subset(table, positions, out / "subset.json")
    write_sharegpt(table, positions, out / "sharegpt.json")
    (out / "dataset_info.json").write_text(json.dumps({"subset": LLAMA_FACTORY}, indent=2) + "\n")
    for name in ("positions.npy", "keys.txt"):
        (out / name).write_bytes((selection / name).read_bytes())
    (out / "README.md").write_text(card(table, positions, selection, out, about))
    return {"rows": len(positions)}


def write_sharegpt(table: RecordTable, positions: np.ndarray, path: Path) -> None:
    """Write rows as `{"conversations", "images"}`, image paths as a list, for LLaMA-Factory."""
    with path.open("w") as file:
        for number, position in enumerate(positions):
            record = table[int(position)]
            row = {"conversations": list(record.conversations), "images": list(record.images)}
            file.write(",\n" if number else "[\n")
            file.write(json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def card(table: RecordTable, positions: np.ndarray, selection: Path, out: Path, about: str) -> str:
    """Return the dataset card: counts by source, histogram of votes, hashes, licences."""
    files = {path.name: path for path in sorted(out.iterdir()) if path.name != "README.md"}
    lines = [
        "# A subset for visual instruction tuning",
        "",
        f"{len(positions):,} of {len(table):,} rows, chosen by {about}. Position and content key "
        "name a row; `id` fields repeat in some pools.",
        "",
        "`subset.json` trains in LLaVA's own code, `sharegpt.json` in LLaMA-Factory. Images are "
        "not copied: paths are relative to the pool's image folder.",
        "",
        *sections(table, positions, selection, files, "its image"),
    ]
    return "\n".join(lines)


def sections(
    table: RecordTable,
    positions: np.ndarray,
    selection: Path,
    files: Mapping[str, Path],
    image: str,
) -> list[str]:
    """Return what every card ends in: rows by source, votes, hashes by a file's name, licences.

    `image` says whose terms a row keeps beside its source's.
    """
    return [
        "## Rows by source",
        "",
        "| source | pool | subset |",
        "|---|---|---|",
        *source_rows(table, positions),
        *votes_table(selection / "scores.parquet", positions),
        "",
        "## SHA-256",
        "",
        *(f"- `{name}` {sha256(path)}" for name, path in files.items()),
        "",
        "## Licence",
        "",
        f"Each row keeps the licence and terms of the source it came from, and those of {image}. "
        "Check them before publishing; choosing rows adds no right.",
        "",
    ]


def source_rows(table: RecordTable, positions: np.ndarray) -> list[str]:
    """Return a line of a table for each source: its rows in the pool, and in the subset."""
    pool, kept = Counter(table.sources[table.usable]), Counter(table.sources[positions])
    return [f"| {name} | {pool[name]:,} | {kept[name]:,} |" for name in sorted(pool)]


def votes_table(scores: Path, positions: np.ndarray) -> list[str]:
    """Return the histogram of votes in the pool and in the subset, if the method votes."""
    if "votes" not in pq.read_schema(scores).names:
        return []
    votes = pq.read_table(scores, columns=["votes"])["votes"].to_numpy()
    pool, kept = (histogram(v) for v in (votes, votes[positions]))
    rows = [f"| {v} | {pool[v]:,} | {kept.get(v, 0):,} |" for v in sorted(pool, reverse=True)]
    return ["", "## Votes", "", "| votes | pool | subset |", "|---|---|---|", *rows]


def histogram(votes: np.ndarray) -> Mapping[int, int]:
    """Count rows by votes; rows without a vote (excluded) are left out."""
    values, counts = np.unique(votes[np.isfinite(votes)].astype(int), return_counts=True)
    found: dict[int, Any] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return found


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
