from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from icons_repro.core.errors import DataError
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
