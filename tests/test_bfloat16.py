"""The whole tiny pipeline with a bfloat16 base and autocast, as trainer=gpu sets it."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from forked import run_forked
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

SELECTORS = (
    "clip_score,el2n,coincide,self_sup,self_filter,less,tive,scalselect,datatailor,presel,xmas"
)
"""Between them they read every feature that a model makes."""
SETTINGS = [
    "trainer.model_dtype=bfloat16",
    "trainer.precision=bf16-mixed",
    "data.world.pool_size=100",
    "data.world.test_rows=8",
    "data.world.validation_rows=4",
    "warmup.fraction=0.3",
    "warmup.train.epochs=1",
    "finetune.epochs=1",
    "features.self_filter.train.epochs=1",
    "features.trajectory_points=2",
    "reference=none",
]
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a run to the end, and of the features of the other selectors."""
    folder = tmp_path_factory.mktemp("outputs")
    stages = "prepare,warmup,extract,score,select,finetune,evaluate,report,export"
    ways = ([f"stages=[{stages}]"], ["-m", f"selector={SELECTORS}", "stages=[select]"])
    for way in ways:
        environment = os.environ | {"ICONS_OUTPUT": str(folder), "OMP_NUM_THREADS": "1"}
        result = run_forked([*way, *SETTINGS], folder, environment)
        assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_every_benchmark_is_scored_and_every_row_has_influence(output: Path) -> None:
    (path,) = output.glob("runs/tiny/icons_20pct/icons-*/results.json")
    results = json.loads(path.read_text())
    assert len(results["benchmarks"]) == 7
    assert {score["status"] for score in results["benchmarks"].values()} == {"ok"}
    influence = pq.read_table(results["influence"])
    assert len(influence) == 100
    for task in set(influence.column_names) - {"position", "key"}:
        assert np.isfinite(influence[task].to_numpy()).all()


def test_what_was_trained_is_float32(output: Path) -> None:
    files = [
        path
        for stage in ("warmup", "finetune")
        for name in ("adapter_model", "projector", "optimizer")
        for path in output.glob(f"cache/{stage}/*/{name}.safetensors")
    ]
    assert len(files) >= 6
    for path in files:
        assert {value.dtype for value in load_file(path).values()} == {torch.float32}, path


def test_stock_transformers_loads_the_exported_bfloat16_model(output: Path) -> None:
    (folder,) = output.glob("cache/export/*/model")
    stored = load_file(folder / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    tokens = AutoProcessor.from_pretrained(folder).tokenizer("what color", return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=tokens["input_ids"]).logits
    assert bool(logits.isfinite().all())


def test_every_feature_is_made_and_is_finite(output: Path) -> None:
    found = output.glob("runs/tiny/icons_20pct/*/results.json")
    sizes = {path.parent.name: json.loads(path.read_text())["n_selected"] for path in found}
    assert len(sizes) == 1 + len(SELECTORS.split(","))
    assert set(sizes.values()) == {20}
    for stage, name in {
        "forward": "loss", "coincide": "rows", "self_filter": "difficulty", "clip": "text",
        "instance_gradients": "rows",
    }.items():  # fmt: skip
        (path,) = output.glob(f"cache/{stage}/*/{name}.npy")
        assert np.isfinite(np.load(path)).all(), stage


def test_gradient_stores_say_how_they_were_computed(output: Path) -> None:
    infos = [json.loads(p.read_text()) for p in output.glob("cache/*gradients/**/info.json")]
    assert len(infos) >= 8
    for info in infos:
        made = info["made_with"]
        assert made["precision"] == "bf16-mixed"
        assert made["attention"]["dtype"] == "bfloat16"
        assert made["attention"]["kernel"] == "sdpa"
