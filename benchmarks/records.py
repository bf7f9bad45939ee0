"""Read a pool of LLaVA-665K's or Cambrian-7M's size: build time, memory, random access.

    python benchmarks/records.py                 # 60,000 rows of LLaVA-665K's schema
    python benchmarks/records.py --full          # 665,298 rows, a JSON array of about 0.5 GB
    python benchmarks/records.py --cambrian      # 7,000,000 JSON lines, 6 GB; --rows for fewer

Rows are made up with the real files' fields, lengths and share of text-only rows; images are not
looked for. Each phase runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reporting import arguments, report

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records

LLAVA_ROWS, CAMBRIAN_ROWS = 665_298, 7_000_000
WORDS = ("the", "red", "what", "is", "color", "of", "image", "shows", "left", "person", "sign")


def turns(rng: random.Random, images: int) -> list[dict[str, str]]:
    """Return made-up turns: mostly one or two rounds, some long, as in LLaVA-665K."""
    made = []
    for number in range(rng.choice([1, 1, 2, 4, 8])):
        tag = "<image>\n" * images if number == 0 else ""
        question = " ".join(rng.choices(WORDS, k=rng.randint(6, 20)))
        answer = " ".join(rng.choices(WORDS, k=rng.choice([1, 3, 40])))
        made += [{"from": "human", "value": tag + question}, {"from": "gpt", "value": answer}]
    return made


def rows(n: int, cambrian: bool) -> Iterator[str]:
    """Yield rows as JSON text: one in 16 text-only; Cambrian's with a source, some two images."""
    rng = random.Random(0)
    shapes = [json.dumps(turns(rng, images)) for images in (0, *[1] * 14, 2 if cambrian else 1)
              for _ in range(32)]  # fmt: skip
    for i in range(n):
        kind = i % 16
        path = f"coco/train2017/{i:012d}.jpg"
        image: Any = None if kind == 0 else [path, path] if cambrian and kind == 15 else path
        row: dict[str, Any] = (
            {"source": "docvqa_39k.json"} if cambrian else {"id": str(i % 600_000)}
        )
        row |= {"image": image} if image else {}
        text = json.dumps(row)[:-1]
        yield f'{text}, "conversations": {shapes[kind * 32 + i % 32]}}}'


def write(path: Path, n: int, cambrian: bool) -> None:
    """Write the pool file: JSON lines for Cambrian, one array for LLaVA."""
    with path.open("w") as file:
        file.write("" if cambrian else "[")
        for i, text in enumerate(rows(n, cambrian)):
            file.write((("" if cambrian else ",") if i else "") + ("\n" if i else "") + text)
        file.write("\n" if cambrian else "]\n")


def peak_mb() -> float:
    """Return this process's peak resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def build(source: Path, out: Path) -> dict[str, float]:
    """Build the table; return seconds and how much the peak memory rose."""
    before, started = peak_mb(), time.perf_counter()
    build_records(source, out, out, RecordPolicy(check_images="none"))
    return {"build s": time.perf_counter() - started, "build MB": peak_mb() - before}


def use(out: Path) -> dict[str, float]:
    """Open the table, read rows at random, then the whole columns that selectors see."""
    before, started = peak_mb(), time.perf_counter()
    table = RecordTable(out / "records.arrow")
    opened = time.perf_counter()
    opened_mb = peak_mb() - before
    for position in np.random.default_rng(0).integers(0, len(table), 5000):
        table[int(position)]
    read = time.perf_counter()
    table.keys, table.words, table.usable, table.image_counts  # noqa: B018
    return {
        "open ms": 1000 * (opened - started),
        "open MB": opened_mb,
        "random rows/s": 5000 / (read - opened),
        "columns s": time.perf_counter() - read,
    }


def apart(function: Any, *arguments: Any) -> dict[str, float]:
    """Run a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Make the file, build the table, use it, and print what it took."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help=f"{LLAVA_ROWS:,} rows")
    parser.add_argument("--cambrian", action="store_true", help=f"{CAMBRIAN_ROWS:,} JSON lines")
    parser.add_argument("--rows", type=int, help="this many rows")
    chosen = parser.parse_args()
    size = CAMBRIAN_ROWS if chosen.cambrian else LLAVA_ROWS if chosen.full else 60_000
    n = chosen.rows or (3_000 if chosen.tiny else size)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("pool.jsonl" if chosen.cambrian else "pool.json")
        write(source, n, chosen.cambrian)
        out = Path(folder) / "out"
        out.mkdir()
        row: dict[str, Any] = {
            "schema": "Cambrian JSONL" if chosen.cambrian else "LLaVA JSON",
            "rows": n,
            "file MB": source.stat().st_size / 1e6,
            **apart(build, source, out),
            "table MB": (out / "records.arrow").stat().st_size / 1e6,
            **apart(use, out),
        }
    report("Records", [row], {"rows/s": n / row["build s"]}, chosen.json)


if __name__ == "__main__":
    main()
