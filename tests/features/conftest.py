"""Fixtures of the features' tests: LLaVA-1.5 at toy width, and rows with and without an image."""

from __future__ import annotations

import json

import pytest
import torch
from benchmark_files import picture
from toy_parts import write_language, write_projector, write_vision

from icons_repro.core.settings import DataSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.data.records import build_records
from icons_repro.models.assemble import assemble
from icons_repro.models.llava import load_model

QUESTIONS = ("how many birds", "what color is it", "is it red", "how many fly south")


def row(i: int) -> dict:
    tag = "<image>\n" if i % 4 < 2 else ""
    turns = [
        {"from": "human", "value": f"{tag}{QUESTIONS[i % 4]}?"},
        {"from": "gpt", "value": ("red", "two birds", "it is")[i % 3]},
    ]
    if i % 5 == 0:
        turns += [{"from": "human", "value": "is it"}, {"from": "gpt", "value": "two red"}]
    return {"conversations": turns} | ({"image": f"{i}.png"} if tag else {})


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """Twelve rows, half of them with an image, and a LLaVA with Vicuna's tokenizer and template."""
    root = tmp_path_factory.mktemp("v1")
    torch.manual_seed(0)
    write_language(root / "language", "v1", initializer_range=0.4)
    parts = {"vision": write_vision(root / "clip"), "projector": write_projector(root / "p.bin")}
    assemble(root / "language", **parts, out=root / "llava", template="v1", dtype=torch.float32)
    for i in range(12):
        (root / f"{i}.png").write_bytes(picture(i))
    (root / "pool.json").write_text(json.dumps([row(i) for i in range(12)]))
    build_records(root / "pool.json", root, root)
    dataset, collate = open_dataset(root, root, root / "llava", DataSettings())
    return dataset, collate, load_model(root / "llava").eval()
