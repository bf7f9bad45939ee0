from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icons_repro.core.errors import DataError
from icons_repro.evaluation import runner
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.measured import read_answers
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import write_local_tasks
from icons_repro.report.answer_book import _data_folder


@pytest.fixture
def world(tmp_path: Path, write_benchmark: Callable[..., Path]) -> Path:
    """Two benchmarks, in a folder whose name `datasets` would read as a pattern."""
    folder = tmp_path / "asked [v2] of *"
    write_benchmark(folder / "parquet", "words", rows=11)
    write_benchmark(folder / "parquet", "presence", rows=10, answers=("yes", "no"))
    return folder


def run(world: Path, base: Path, adapter: Path | None, *more: BenchmarkSettings) -> dict[str, Any]:
    local = write_local_tasks(world / "parquet", world / "include")
    return runner.evaluate(
        base, adapter, [*local, *more], world / "include", world / "out", batch_size=8
    )


def test_results_have_the_contracts_fields_and_follow_from_the_answers(
    world: Path, tiny_base: Path, adapter: Path
) -> None:
    results = run(world, tiny_base, adapter)
    assert list(results) == ["presence", "words"]
    words = results["words"]
    assert set(words) == {"score", "metric", "n", "stderr", "higher_is_better", "status"}
    assert (words["metric"], words["n"], words["status"]) == ("exact_match", 11, "ok")
    for name, result in results.items():
        answers = read_answers(world / "out", name)
        assert answers is not None
        assert answers.units.score() * 100 == pytest.approx(result["score"], abs=1e-9)
        metrics = json.loads((world / "out" / "metrics" / f"{name}.json").read_text())["metrics"]
        assert metrics[f"{result['metric']},none"] * 100 == pytest.approx(result["score"])
    assert "pope_f1_score,none" in json.dumps(metrics) or "exact_match,none" in metrics
    assert runner.read_scores(world / "out") == results


def test_answers_name_question_prediction_and_score(
    world: Path, tiny_base: Path, adapter: Path
) -> None:
    run(world, tiny_base, adapter)
    rows = read_rows(world / "out" / "answers" / "words.jsonl")
    assert [row["position"] for row in rows] == list(range(11))
    assert rows[0]["question_id"] == "words_00000"
    assert rows[0]["question"] == "what color is the circle?"
    assert rows[0]["answer"] == "red"
    assert all(isinstance(row["prediction"], str) for row in rows)
    assert {row["score"] for row in rows} <= {0.0, 1.0}


def test_answers_tell_which_questions_share_a_picture(
    tmp_path: Path, tiny_base: Path, write_benchmark: Callable[..., Path]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_benchmark(tmp_path / "parquet", "words", rows=10)
    rows = pq.read_table(path).to_pylist()
    rows[6]["image"] = {"bytes": rows[2]["image"]["bytes"], "path": "another name.png"}
    pq.write_table(pa.Table.from_pylist(rows), path)
    run(tmp_path, tiny_base, None)
    found = [row["cluster"] for row in read_rows(tmp_path / "out" / "answers" / "words.jsonl")]
    assert found[2] == found[6]
    assert found[4] is None, "asked without a picture"
    named = [name for name in found if name is not None]
    assert len(set(named)) == len(named) - 1
    answers = read_answers(tmp_path / "out", "words")
    assert answers is not None
    assert answers.units.clusters.tolist() == [0, 1, 2, 3, 4, 5, 2, 6, 7, 8]


def test_a_perfect_answerer_scores_100(
    world: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    from icons_repro.evaluation.lmms_model import LlavaLmms

    known = {
        name: pq.read_table(world / "parquet" / f"{name}.parquet")["answer"].to_pylist()
        for name in ("words", "presence")
    }

    def perfect(self: LlavaLmms, requests: Any, batch: Any) -> list[str]:
        return [known[requests[r].args[4]][requests[r].args[3]].upper() for r in batch[1]]

    monkeypatch.setattr(LlavaLmms, "_inputs", perfect)
    monkeypatch.setattr(LlavaLmms, "_answer", lambda self, inputs, decoding: inputs)
    results = run(world, tiny_base, None)
    assert {name: result["score"] for name, result in results.items()} == {
        "presence": 100.0,
        "words": 100.0,
    }


def test_finished_benchmarks_are_not_run_again_unless_weights_change(
    world: Path, tiny_base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.evaluation.harness import Harness

    first = run(world, tiny_base, adapter)
    (world / "out" / "metrics" / "words.json").unlink()
    ran = []
    original = Harness.run

    def spy(self: Harness, benchmark: BenchmarkSettings, count: str = "") -> dict[str, Any]:
        ran.append(benchmark.name)
        return original(self, benchmark, count)

    monkeypatch.setattr(Harness, "run", spy)
    assert run(world, tiny_base, adapter) == first
    assert ran == ["words"]
    run(world, tiny_base, None)
    assert ran == ["words", "presence", "words"]


def test_an_interrupted_evaluation_goes_on_where_it_was(
    world: Path, tiny_base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.evaluation.lmms_model import LlavaLmms

    original = LlavaLmms._inputs

    def dies_on_words(self: LlavaLmms, requests: Any, batch: Any) -> Any:
        if requests[0].args[4] == "words":
            raise KeyboardInterrupt
        return original(self, requests, batch)

    monkeypatch.setattr(LlavaLmms, "_inputs", dies_on_words)
    with pytest.raises(KeyboardInterrupt):
        run(world, tiny_base, adapter)
    assert list(runner.read_scores(world / "out")) == ["presence"]
    monkeypatch.setattr(LlavaLmms, "_inputs", original)
    assert set(run(world, tiny_base, adapter)) == {"presence", "words"}


def test_errors_of_the_model_are_raised_not_reported_as_unavailable(
    world: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.evaluation.lmms_model import LlavaLmms

    def out_of_memory(self: LlavaLmms, inputs: Any, decoding: Any) -> list[str]:
        raise MemoryError("the batch is too large")

    monkeypatch.setattr(LlavaLmms, "_answer", out_of_memory)
    with pytest.raises(MemoryError, match="too large"):
        run(world, tiny_base, None)


def test_what_cannot_be_scored_has_a_reason_and_no_number(
    world: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.evaluation import availability

    monkeypatch.setattr(availability, "hub_reachable", lambda: False)
    results = run(
        world, tiny_base, None,
        BenchmarkSettings("llava_wild", task="llava_in_the_wild", needs_judge=True),
        BenchmarkSettings("pope", metric="pope_f1_score"),
        BenchmarkSettings("wrods"),
        BenchmarkSettings("other_metric", task="words", metric="anls"),
    )  # fmt: skip
    reasons = {n: r["reason"] for n, r in results.items() if r["status"] == "not available"}
    assert all(results[name]["score"] is None for name in reasons)
    assert "OPENAI_API_KEY" in reasons["llava_wild"]
    assert "hub cannot be reached" in reasons["pope"]
    assert "no task 'wrods'" in reasons["wrods"]
    assert "gave no anls,none" in reasons["other_metric"]
    assert results["words"]["status"] == "ok"


def test_a_file_of_ours_that_cannot_be_loaded_is_an_error(world: Path, tiny_base: Path) -> None:
    """It is no benchmark that this machine cannot have: its score must not just be missing."""
    local = write_local_tasks(world / "parquet", world / "include")
    (world / "parquet" / "words.parquet").unlink()
    with pytest.raises(DataError, match="words cannot be loaded: ValueError"):
        runner.evaluate(tiny_base, None, local, world / "include", world / "out", batch_size=8)


def test_the_page_finds_the_files_that_a_task_describes(world: Path) -> None:
    write_local_tasks(world / "parquet", world / "include")
    assert _data_folder(world / "include" / "words.yaml") == (world / "parquet").resolve()


def test_a_failing_judge_leaves_no_score(
    world: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loguru import logger

    import icons_repro.evaluation.runner as module
    from icons_repro.evaluation.lmms_model import LlavaLmms

    def answer(self: LlavaLmms, inputs: Any, decoding: Any) -> list[str]:
        logger.info("GPT API failed to answer. ")
        return ["A"] * len(inputs["input_ids"])

    monkeypatch.setattr(LlavaLmms, "_answer", answer)
    monkeypatch.setattr(module, "judge_problem", lambda benchmark: None)
    results = run(world, tiny_base, None)
    assert results["words"]["status"] == "not available"
    assert "random or zero score" in results["words"]["reason"]


def test_a_benchmark_of_a_test_server_has_no_score(world: Path, tiny_base: Path) -> None:
    server = BenchmarkSettings("words_test", task="words", needs_server=True)
    result = run(world, tiny_base, None, server)["words_test"]
    assert result["score"] is None
    assert "submissions" in result["reason"]


def test_lmms_eval_leaves_the_process_as_it_was(
    world: Path, tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import filelock

    run(world, tiny_base, None)
    first, second = (filelock.FileLock(world / "x.lock") for _ in range(2))
    assert first is not second, "filelock's constructor must be its own again"
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Postprocessing" not in shown.err
    assert "Loading weights" not in shown.err


def test_the_runner_imports_nothing_heavy() -> None:
    code = (
        "import sys, icons_repro.evaluation.runner, icons_repro.evaluation.settings, "
        "icons_repro.evaluation.tasks, icons_repro.evaluation.availability; "
        "print([m for m in ('torch', 'lmms_eval', 'transformers', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
