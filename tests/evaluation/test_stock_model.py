"""An exported model is scored by lmms-eval's own `llava_hf` as our model scores the adapter."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icons_repro.evaluation import runner
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.tasks import write_local_tasks
from icons_repro.stages.export import write_merged

pytest.importorskip("decord", reason="lmms-eval's llava_hf imports it; it has no wheel here")
pytestmark = pytest.mark.e2e


def stock(folder: Path, include: Path, tasks: list[str], out: Path) -> dict[str, Any]:
    """Run lmms-eval's command line on a model folder; return its results and its answers."""
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "llava_hf"),
        *("--model_args", f"pretrained={folder},device=cpu,device_map=cpu,dtype=float32"),
        *("--tasks", ",".join(tasks), "--include_path", str(include), "--batch_size", "1"),
        *("--log_samples", "--output_path", str(out)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr  # it exits with 0 after an error, and answers "" after one
    assert "Error" not in said, said[-3000:]
    (results,) = out.rglob("*_results.json")
    answers = {}
    for task in tasks:
        (path,) = out.rglob(f"*_samples_{task}.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        answers[task] = [r["filtered_resps"] for r in sorted(rows, key=lambda r: r["doc_id"])]
    return {"results": json.loads(results.read_text())["results"], "answers": answers}


def test_stock_llava_hf_answers_and_scores_as_the_adapter_does(
    tiny_base: Path,
    adapter: Path,
    tmp_path: Path,
    write_benchmark: Callable[..., Path],
) -> None:
    write_benchmark(tmp_path / "parquet", "words", rows=14, every_row_pictured=True)
    write_benchmark(
        tmp_path / "parquet", "presence", rows=10, answers=("yes", "no"), every_row_pictured=True
    )
    local = write_local_tasks(tmp_path / "parquet", tmp_path / "include")
    ours = runner.evaluate(
        tiny_base, adapter, local, tmp_path / "include", tmp_path / "ours", batch_size=8
    )
    write_local_tasks(tmp_path / "parquet", tmp_path / "include")
    write_merged(tiny_base, adapter, tmp_path / "model", "float32")
    theirs = stock(tmp_path / "model", tmp_path / "include", list(ours), tmp_path / "stock")
    for name, result in ours.items():
        rows = read_rows(tmp_path / "ours" / "answers" / f"{name}.jsonl")
        answers = [row["prediction"] for row in rows]
        assert len(set(answers)) > 1
        assert theirs["answers"][name] == answers
        score = theirs["results"][name][f"{result['metric']},none"]
        assert 100 * score == pytest.approx(result["score"])
