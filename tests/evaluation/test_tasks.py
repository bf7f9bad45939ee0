from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.evaluation.local_tasks.functions import doc_to_visual
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import write_local_tasks, write_override


def test_every_parquet_file_becomes_a_task_of_its_kind(
    tmp_path: Path, write_benchmark: Callable[..., Path]
) -> None:
    write_benchmark(tmp_path / "p", "words")
    write_benchmark(tmp_path / "p", "presence", answers=("yes", "no"))
    found = write_local_tasks(tmp_path / "p", tmp_path / "i")
    assert [(b.name, b.metric) for b in found] == [
        ("presence", "pope_accuracy"),
        ("words", "exact_match"),
    ]


def test_written_tasks_load_in_lmms_eval(
    tmp_path: Path, write_benchmark: Callable[..., Path]
) -> None:
    from lmms_eval.tasks import TaskManager, get_task_dict
    from lmms_eval.tasks.pope.utils import pope_process_results

    write_benchmark(tmp_path / "p", "presence", rows=6, answers=("yes", "no"))
    write_local_tasks(tmp_path / "p", tmp_path / "i")
    manager = TaskManager("ERROR", include_path=[str(tmp_path / "i")], include_defaults=False)
    task = get_task_dict(["presence"], manager, "chat")["presence"]
    assert task.config.process_results is pope_process_results
    messages = [task.doc_to_messages(doc) for doc in task.eval_docs]
    kinds = [[part["type"] for part in message[0]["content"]] for message in messages]
    assert kinds[0] == ["image", "text"]
    assert kinds[4] == ["text"], "a row without a picture asks by text alone"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"question": ["q"]}, "lacks the column"),
        ({c: [] for c in ("question_id", "image", "question", "answer")}, "no rows"),
    ],
)
def test_bad_benchmark_files_are_named(
    tmp_path: Path, table: dict[str, list[str]], message: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=rf"bad\.parquet.*{message}"):
        write_local_tasks(tmp_path, tmp_path / "i")


def test_missing_benchmark_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothere\.parquet does not exist"):
        write_local_tasks(tmp_path, tmp_path / "i", ["nothere"])
    with pytest.raises(DataError, match="holds no benchmark"):
        write_local_tasks(tmp_path, tmp_path / "i")


def test_an_override_changes_the_upstream_task_and_its_name(tmp_path: Path) -> None:
    import lmms_eval.tasks
    from lmms_eval.utils import load_yaml_config

    base = Path(lmms_eval.tasks.__file__).parent / "textvqa" / "textvqa_val.yaml"
    options = {
        "lmms_eval_specific_kwargs": {
            "default": {"pre_prompt": "", "post_prompt": "", "ocr": True}
        },
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "!function lmms_eval.tasks.pope.utils.pope_aggregate_accuracy",
                "higher_is_better": True,
            }
        ],
    }
    benchmark = BenchmarkSettings("textvqa", task="textvqa_val", options=options)
    changed = write_override(benchmark, base, tmp_path)
    assert changed.task == "textvqa_val_icons"
    config = load_yaml_config(str(tmp_path / "textvqa_val_icons.yaml"), mode="full")
    assert config["task"] == "textvqa_val_icons"
    assert config["lmms_eval_specific_kwargs"]["default"]["ocr"] is True
    assert config["dataset_path"] == "lmms-lab-encoder/textvqa"
    assert callable(config["metric_list"][0]["aggregation"])


def damaged(parquet: Path, how: str) -> None:
    """Spoil a benchmark file in one way."""
    whole = parquet.read_bytes()
    content = {
        "empty": b"",
        "text": b"question_id,image\n1,2\n",
        "cut": whole[: len(whole) // 2],
        "no_head": b"\0" * 100 + whole[100:],
        "middle": whole[:200] + b"\xff" * 300 + whole[500:],
    }[how]
    parquet.write_bytes(content)


@pytest.mark.parametrize("how", ["empty", "text", "cut", "no_head", "middle"])
def test_a_file_that_is_no_parquet_is_one_clear_error(
    how: str, tmp_path: Path, write_benchmark: Callable[..., Path]
) -> None:
    damaged(write_benchmark(tmp_path, "bad"), how)
    with pytest.raises(DataError, match=r"bad\.parquet is no readable parquet file: .*again"):
        write_local_tasks(tmp_path, tmp_path / "i")


STRIP = io.BytesIO()
Image.new("RGB", (1, 20_000)).save(STRIP, "PNG")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("question", None, "`question` is null, and must be text"),
        ("answer", 3, "`answer` is of type int, and must be text"),
        ("question_id", [1], "`question_id` is of type list"),
        ("image", b"bytes", "`image` must be null, or a struct"),
        ("image", {"bytes": "text", "path": ""}, "`image` must be null, or a struct"),
        ("image", {"bytes": None, "path": "x.png"}, r"`image` names 'x\.png' but holds no `bytes`"),
        ("image", {"bytes": b"no picture", "path": None}, "image 'of question q1' cannot be read"),
        ("image", {"bytes": STRIP.getvalue(), "path": None}, "400,000,000 pixels"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(
    column: str, value: Any, message: str, tmp_path: Path
) -> None:
    rows = [
        {"question_id": f"q{i}", "image": None, "question": "what", "answer": "it"}
        for i in range(2)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns[column] = [None if column == "image" else value, value]
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    number = 1 if column == "image" else 0
    with pytest.raises(DataError, match=rf"bad\.parquet, row {number}: .*{message}.*Mend"):
        write_local_tasks(tmp_path, tmp_path / "i")


def test_a_named_pipe_as_benchmark_is_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match=r"pipe\.parquet: it is a named pipe"):
        write_local_tasks(tmp_path, tmp_path / "i")


def test_a_picture_that_does_not_decode_names_its_question() -> None:
    whole = io.BytesIO()
    Image.effect_noise((32, 32), 9).save(whole, "PNG")
    image = {"bytes": whole.getvalue()[:-200], "path": None}
    with pytest.raises(DataError, match="image 'of question 7' cannot be read"):
        doc_to_visual({"question_id": 7, "image": image})
