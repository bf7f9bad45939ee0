"""Fixtures of the features' tests: LLaVA-1.5 at toy width, and rows with and without an image."""

from __future__ import annotations

import pytest
import torch
from toy_parts import write_language, write_projector, write_vision
from toy_rows import write_rows

from icons_repro.core.settings import DataSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.models.assemble import assemble
from icons_repro.models.llava import load_model


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """Twelve rows, half of them with an image, and a LLaVA with Vicuna's tokenizer and template."""
    root = tmp_path_factory.mktemp("v1")
    torch.manual_seed(0)
    write_language(root / "language", "v1", initializer_range=0.4)
    parts = {"vision": write_vision(root / "clip"), "projector": write_projector(root / "p.bin")}
    assemble(root / "language", **parts, out=root / "llava", template="v1", dtype=torch.float32)
    write_rows(root, 12)
    dataset, collate = open_dataset(root, root, root / "llava", DataSettings())
    return dataset, collate, load_model(root / "llava").eval()
