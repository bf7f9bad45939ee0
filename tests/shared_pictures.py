"""Pictures that pool, validation and tests share, put there on purpose."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.stage import MadeData, Pool, Targets
from icons_repro.leakage.stage import Leakage, PoolPrints

HOSTILE = "x'><img onerror=alert(1)> ü\u2028.png"


def scene(seed: int) -> Image.Image:
    """A picture of large patches of colour, unlike that of any other seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((96, 96), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def records(images: Sequence[str]) -> str:
    turns = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "this"}]
    rows = [{"id": str(i), "image": n, "conversations": turns} for i, n in enumerate(images)]
    return json.dumps(rows)


def benchmark(path: Path, pictures: Sequence[bytes | None]) -> None:
    rows = [
        {"question_id": f"q{i}", "question": "what?", "answer": "this",
         "image": None if data is None else {"bytes": data, "path": None}}
        for i, data in enumerate(pictures)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared(MadeData):
    """Scenes 0-5 in the pool, 10-12 in validation; tests repeat some, changed or not."""

    stage = "world"
    group = "prepare"

    def run(self, work: Work) -> Counts | None:
        """Write them."""
        for name in ("images", "targets", "benchmarks"):
            (work.out / name).mkdir()
        names = [f"{n}.png" for n in range(5)] + [HOSTILE]
        for number, name in [*enumerate(names), *((n, f"{n}.png") for n in (10, 11, 12))]:
            scene(number).save(work.out / "images" / name)
        (work.out / "images" / "cut.png").write_bytes(encoded(scene(13))[:900])
        (work.out / "pool.json").write_text(records([*names, "cut.png"]))
        (work.out / "targets" / "one.json").write_text(records(["10.png", "11.png"]))
        (work.out / "targets" / "other.json").write_text(records(["12.png", "0.png"]))
        benchmark(
            work.out / "benchmarks" / "first.parquet",
            [
                encoded(scene(0)),
                encoded(scene(0)),
                encoded(scene(1), "BMP"),
                encoded(scene(2), "JPEG", quality=40),
                encoded(ImageOps.mirror(scene(3))),
                None,
                encoded(scene(20)),
            ],
        )
        benchmark(
            work.out / "benchmarks" / "second.parquet",
            [encoded(scene(5).resize((50, 60))), encoded(scene(10)), encoded(scene(21))],
        )


def leakage_step(**changes: Any) -> Leakage:
    made, policy = Shared(), RecordPolicy()
    fields: dict[str, Any] = {
        "pool": PoolPrints(pool=Pool(policy=policy, world=made)),
        "targets": Targets(policy=policy, tasks=None, made=made),
        "tasks": {},
        "world": made,
    }
    return Leakage(**(fields | changes))
