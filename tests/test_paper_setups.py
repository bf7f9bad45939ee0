"""The paper's setups on small files with the published schema and names, with the tiny model."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import benchmark_files as made
import numpy as np
import pytest
from forked import run_forked

TINY_PARTS = [
    *("model=tiny", "lora=tiny", "warmup=tiny", "finetune=tiny", "features=tiny", "trainer=cpu"),
    "data.blocks=null",
    *("warmup.fraction=0.5", "logger=none"),
]
PAPER_PARTS = [
    *("targets.tasks=[gqa,textvqa,mme]", "targets.build.gqa=3", "targets.build.textvqa=2"),
    *("benchmarks=custom", "benchmarks.local=true", "benchmarks.folder=."),
]
pytestmark = pytest.mark.e2e
Row = dict[str, Any]


def turns(question: str, answer: str) -> list[Row]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def llava_rows(images: Path) -> Iterator[Row]:
    (images / "coco" / "train2017").mkdir(parents=True)
    for i in range(40):
        if i % 5 == 4:
            yield {"id": "same", "model": "", "conversations": turns("How are you?", "Well.")}
            continue
        name = f"coco/train2017/{i:012d}.jpg"
        (images / name).write_bytes(made.picture(i, "JPEG"))
        yield {"id": "same", "image": name, "conversations": turns("<image>\nWhat?", f"a {i}")}


def cambrian_rows(images: Path) -> Iterator[Row]:
    images.mkdir(parents=True)
    for i in range(40):
        row: Row = {"source": f"docvqa_{i % 3}k.json", "conversations": turns("Hello?", f"yes {i}")}
        if i % 4:
            (images / f"{i}.png").write_bytes(made.picture(i))
            question = "<image>\nWhich?" if i % 4 < 3 else "<image>\n<image>\nWhich of both?"
            names = [f"{i}.png"] * question.count("<image>")
            row["image"] = names[0] if len(names) == 1 else names
            row["conversations"] = turns(question, f"the {i}")
        yield row


def vision_flan_rows(images: Path) -> Iterator[Row]:
    images.mkdir(parents=True)
    for i in range(40):
        (images / f"{i}.jpg").write_bytes(made.picture(i, "JPEG"))
        answer = "" if i == 7 else f"it is {i}"  # one empty answer, as reported of the release
        yield {
            "id": f"task+{i}",
            "image": f"{i}.jpg",
            "task_name": f"task_{i % 4}",
            "conversations": turns("<image>\nWhat is it?", answer),
        }


SETUPS: dict[str, tuple[str, str, Callable[[Path], Iterator[Row]], int]] = {
    "llava_665k": ("llava_665k/llava_v1_5_mix665k.json", "llava_665k/images", llava_rows, 40),
    "cambrian_7m": (
        "cambrian_7m/Cambrian7M_withsystemprompt.jsonl",
        "cambrian_7m/images",
        cambrian_rows,
        40,
    ),
    "vision_flan_186k": (
        "vision_flan/annotation_191-task_1k.json",
        "vision_flan/images_191task_1k",
        vision_flan_rows,
        39,
    ),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    sources = folder / "target_sources"
    for split, seeds in (("val", range(100, 106)), ("testdev", range(106, 108))):
        made.gqa(sources, split, seeds)
    for split, seeds in (("train", range(110, 116)), ("validation", range(116, 118))):
        made.textvqa(sources, split, seeds)
    made.mme(sources, range(120, 124))
    return folder


def run(
    data: Path,
    *arguments: str,
    parts: Sequence[str] = (*TINY_PARTS, *PAPER_PARTS),
    columns: int = 240,
) -> subprocess.CompletedProcess[str]:
    here = {"ICONS_DATA": str(data), "ICONS_OUTPUT": str(data / "outputs")}
    here |= {"OMP_NUM_THREADS": "1", "COLUMNS": str(columns)}
    return run_forked([*arguments, *parts], data, os.environ | here)


@pytest.mark.parametrize("setup", list(SETUPS))
def test_a_setup_looks_ahead_draws_its_targets_and_selects(setup: str, data: Path) -> None:
    pool, images, rows_of, usable = SETUPS[setup]
    rows = list(rows_of(data / images))
    lines = "\n".join(json.dumps(row) for row in rows)
    (data / pool).write_text(lines if pool.endswith("jsonl") else json.dumps(rows))
    result = run(data, f"setup={setup}", "budget=0.2", "stages=[preflight,select]")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "every image of" in result.stdout
    assert "mme: no rows but the test rows" in " ".join(result.stdout.replace("│", " ").split())
    (path,) = (data / "outputs" / "runs" / setup).glob("*/*/results.json")
    results = json.loads(path.read_text())
    assert (results["scale"], results["n_pool"]) == ("own", usable)  # the model is the tiny one
    chosen = Path(results["selection"])
    positions = np.load(chosen / "positions.npy")
    assert len(positions) == usable // 5
    assert json.loads((chosen / "subset.json").read_text()) == [rows[i] for i in positions]


def test_the_plan_prints_whole_numbers_in_eighty_columns(data: Path) -> None:
    pool, images, rows_of, _ = SETUPS["llava_665k"]
    (data / pool).parent.mkdir(exist_ok=True)
    (data / pool).write_text(json.dumps(list(rows_of(data / images))))
    plan = ["setup=llava_665k", "plan=true", "data.blocks=null", "targets.tasks=[gqa,textvqa]"]
    for name in ("language", "vision", "projector"):
        (data / name).mkdir()
        (data / name / "config.json").write_text("{}")
        plan.append(f"model.{name}={data / name}")
    result = run(data, *plan, parts=(), columns=80)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [s for s in result.stdout.splitlines() if not s.startswith("Plan, cache ")]
    assert max(map(len, lines)) <= 80, "but for a path, which is never cut"
    words = set(result.stdout.replace("│", " ").split())
    assert {"665,298", "64,002", "1,040", "319,815,680"} <= words
    assert "…" not in result.stdout
    assert sum(bool(re.fullmatch("[0-9a-f]{16}", word)) for word in words) >= 8, "fingerprints"


def test_a_missing_image_stops_preflight_with_the_remedy(data: Path) -> None:
    pool, images, rows_of, _ = SETUPS["llava_665k"]
    rows = list(rows_of(data / images))
    (data / pool).write_text(json.dumps(rows))
    (data / images / rows[3]["image"]).write_bytes(b"cut")
    result = run(data, "setup=llava_665k", "stages=[preflight]")
    assert result.returncode == 1
    assert "1 images of 40 rows cannot be used" in " ".join(result.stdout.split())
    assert "Traceback" not in result.stderr


def test_the_custom_setup_runs_a_users_own_files_from_pool_to_score(data: Path) -> None:
    rows = list(llava_rows(data / "images"))
    (data / "pool.json").write_text(json.dumps(rows))
    (data / "targets").mkdir()
    (data / "targets" / "mine.json").write_text(json.dumps([r for r in rows if "image" in r][:3]))
    questions = [
        {"question_id": f"q{i}", "question": "what ?", "answer": "red", "skill": "s",
         "category": "open"}
        for i in range(6)
    ]  # fmt: skip
    made.write_split(data, "tests/mine", questions, [made.picture(i) for i in range(6)])
    for part, name in enumerate(("mine", "other")):
        (data / f"tests/mine-{part:05d}-of-00002.parquet").rename(data / f"tests/{name}.parquet")
    result = run(
        data,
        *("setup=custom", "data.json=pool.json", "data.images=images"),
        *("targets.folder=targets", "targets.images=images"),
        *("benchmarks.local=true", "benchmarks.folder=tests", "budget=0.5"),
        parts=TINY_PARTS,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    (path,) = (data / "outputs" / "runs" / "custom").glob("*/*/results.json")
    results = json.loads(path.read_text())
    assert results["n_selected"] == 20
    assert {n: r["n"] for n, r in results["benchmarks"].items()} == {"mine": 3, "other": 3}
    assert all(r["status"] == "ok" for r in results["benchmarks"].values())
    assert results["relative"] is None  # reference: reuse, and no full-data run is there
    assert results["scale"] == "own"
    said = " ".join(result.stdout.split())
    assert "the model cannot read all of the pool" in said
    assert "not compared with full and random" in said
    (line,) = [one for one in result.stdout.splitlines() if "reference=compute" in one]
    assert {"setup=custom", "data.json=pool.json"} <= set(line.split())
