"""A finished run on disk, as the report reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from run_files import benchmark_result as result

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import build_records
from icons_repro.evaluation.relative import Relative
from icons_repro.report.gather import PageInputs
from icons_repro.report.results import RunResults

TASKS = ("tiny_vqa", "tiny_gqa")
ROWS, CHOSEN = 60, 12


def run_results(**changes: Any) -> RunResults:
    """A whole `results.json`."""
    fields: dict[str, Any] = {
        "experiment": "icons_20pct",
        "setup": "tiny",
        "scale": "tiny",
        "selector": "icons",
        "budget": 0.2,
        "seed": 0,
        "n_pool": ROWS,
        "n_selected": CHOSEN,
        "selection": "cache/select/1",
        "benchmarks": {"tiny_vqa": result(61.0), "judged": result(None)},
        "relative": {"value": 97.0, "low": 95.0, "high": 99.0, "reference": "full"},
        "stages": {"select": {"fingerprint": "abc", "cached": False, "seconds": 1.5}},
    }
    return RunResults(**(fields | changes))


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    """A selection directory of 12 of 60 rows with votes and influence."""
    folder = tmp_path / "selection"
    folder.mkdir()
    rng = np.random.default_rng(0)
    influence = {f"influence/{task}": rng.random(ROWS) for task in TASKS}
    votes = rng.integers(0, 3, ROWS)
    positions = np.sort(np.argsort(-votes, kind="stable")[:CHOSEN])
    np.save(folder / "positions.npy", positions)
    keys = [f"{i:032x}" for i in range(ROWS)]
    columns = {"key": keys, "position": np.arange(ROWS), "score": votes.astype(float)}
    columns |= {"votes": votes.astype(float)}
    pq.write_table(pa.table(columns | influence), folder / "scores.parquet")
    counts = {"shapes": {"pool": 45, "selected": 11}, "chat": {"pool": 15, "selected": 1}}
    (folder / "sources.json").write_text(json.dumps(counts))
    return folder


def write_pool(folder: Path) -> None:
    """A pool step's folder: every second row has a picture."""
    rng = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        image = {"image": f"{i}.png"} if i % 2 == 0 else {}
        turns = [
            {"from": "human", "value": f"<image>\nis {i} < 3 & odd?"[0 if image else 8 :]},
            {"from": "gpt", "value": "no"},
        ]
        rows.append({"id": "x", **image, "conversations": turns})
        if image:
            picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            picture.save(folder / "images" / f"{i}.png")
    (folder / "pool.json").write_text(json.dumps(rows))
    build_records(folder / "pool.json", folder / "images", folder, RecordPolicy())


@pytest.fixture
def inputs(tmp_path: Path, selection: Path) -> PageInputs:
    """Everything a page can show."""
    write_pool(tmp_path / "pool")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(
        "".join(json.dumps({"step": i + 1, "loss": 2 / (i + 1)}) + "\n" for i in range(30))
    )

    return PageInputs(
        results=run_results(),
        lines={
            "full": {"tiny_vqa": result(63.0)},
            "random": {"tiny_vqa": result(55.0)},
            "this run": {"tiny_vqa": result(61.0), "judged": result(None)},
        },
        blind={"tiny_vqa": 20.0},
        relatives={"relative to full data": Relative(97.0, 95.0, 99.0, "full")},
        selection=selection,
        metrics={"finetune": metrics},
        pool=tmp_path / "pool",
        files={"results": tmp_path / "results.json"},
        config_text="budget: 0.2\n",
    )
