"""An exported model is scored by lmms-eval's own `llava_hf` as our model scores the adapter."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_samples import answers_of, random_adapter
from PIL import Image
from toy_parts import write_language, write_projector, write_vision

from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.dataset import Collator, Sample
from icons_repro.evaluation import runner
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.jobs import image_transform
from icons_repro.evaluation.tasks import write_local_tasks
from icons_repro.export.merge import write_merged
from icons_repro.models.assemble import assemble
from icons_repro.models.llava import load_processor

pytest.importorskip("decord", reason="lmms-eval's llava_hf imports it; it has no wheel here")


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


@pytest.mark.e2e
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
    write_merged(tiny_base, adapter, tmp_path / "model", "float32", "pad")
    theirs = stock(tmp_path / "model", tmp_path / "include", list(ours), tmp_path / "stock")
    for name, result in ours.items():
        rows = read_rows(tmp_path / "ours" / "answers" / f"{name}.jsonl")
        answers = [row["prediction"] for row in rows]
        assert len(set(answers)) > 1
        assert theirs["answers"][name] == answers
        score = theirs["results"][name][f"{result['metric']},none"]
        assert 100 * score == pytest.approx(result["score"])


@pytest.fixture(scope="module", params=["v1", "llama3", "qwen"])
def assembled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy LLaVA of each family, its weights wide enough that answers differ and end."""
    root = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    write_language(root / "language", request.param, initializer_range=0.4)
    parts = {"vision": write_vision(root / "clip"), "projector": write_projector(root / "p.bin")}
    model = assemble(
        root / "language", **parts, out=root / "llava", template=request.param, dtype=torch.float32
    )
    with torch.no_grad():
        model.lm_head.weight[model.generation_config.eos_token_id] *= 2
    model.save_pretrained(root / "llava")
    return root / "llava"


@pytest.fixture(scope="module")
def exported(assembled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The merged folder, and the adapter that it was merged from."""
    root = tmp_path_factory.mktemp("exported")
    adapter = random_adapter(assembled, root / "adapter")
    write_merged(assembled, adapter, root / "model", "float32", "pad")
    return root / "model", adapter


@pytest.mark.parametrize("kind", ["chat", "simple"])
def test_an_exported_model_of_any_family_needs_no_code_of_ours(
    assembled: Path,
    exported: tuple[Path, Path],
    kind: str,
    tmp_path: Path,
    write_benchmark: Callable[..., Path],
) -> None:
    """Padding to a square, one beginning token, and the end of a turn are in the folder."""
    from icons_repro.evaluation.lmms_model import LlavaLmms

    write_benchmark(tmp_path / "parquet", "words", rows=12, every_row_pictured=True, width=47)
    write_local_tasks(tmp_path / "parquet", tmp_path / "include")
    folder, adapter = exported
    pad = image_transform(assembled, "pad")
    ours = LlavaLmms(assembled, adapter, batch_size=4, image_transform=pad)
    stock_class = importlib.import_module(f"lmms_eval.models.{kind}.llava_hf").LlavaHf
    theirs = stock_class(str(folder), device="cpu", device_map="cpu", dtype="float32")
    expected = answers_of(ours, tmp_path / "include", ["words"])["words"]
    assert len(set(expected)) > 6
    found = answers_of(theirs, tmp_path / "include", ["words"])["words"]
    assert [answer.strip() for answer in found] == expected


def test_an_exported_model_can_be_trained_on_as_the_base_was(
    assembled: Path, exported: tuple[Path, Path]
) -> None:
    turns = [{"from": "human", "value": "<image>\nwhat color"}, {"from": "gpt", "value": "red"}]
    record = Record(0, "k", {"conversations": turns}, ("x.png",), "test")
    wide = Image.new("RGB", (47, 28), "red")
    batches = []
    for folder in (assembled, exported[0]):
        processor = load_processor(folder)
        sample = Sample(0, ConversationEncoder(processor).encode(record), [wide])
        batches.append(Collator(processor)([sample]))
    for name, tensor in batches[0].items():
        assert torch.equal(tensor, batches[1][name]), name
