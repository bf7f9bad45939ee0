"""The fifteen lines of docs/extend.md run, on a PEFT model that has nothing to do with LLaVA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

EXAMPLE = """
import numpy as np
from icons_repro.api import (
    PerSampleGradients, build_projection, extract, gradient_parameters, score, vote
)

gradients = PerSampleGradients(model, gradient_parameters(model, "lora"))
projection = build_projection(gradients.layout, kind="count_sketch", dim=5120, seed=0)
train = extract(gradients, projection, loader, "store/train")  # rows [N, 5120] on disk
targets = {
    "task_a": extract(gradients, projection, tokens_a, "store/task_a"),  # token ids [M, L]
    "task_b": extract(gradients, projection, tokens_b, "store/task_b"),
}
influence = score(train, targets)  # influence.values: float32 [N, 2]
votes = vote(influence.values, percentile=80)  # [N]
chosen = np.argsort(-votes, kind="stable")[: len(votes) // 5]
"""


def page_example() -> str:
    """Return the page's block that imports the public API, or the one above without it."""
    page = Path(__file__).parents[2] / "docs" / "extend.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return next((block for block in blocks if "icons_repro.api" in block), EXAMPLE)


def small_world() -> dict[str, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    model = get_peft_model(
        LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    ids = torch.randint(0, 40, (30, 12))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    return {
        "model": model,
        "loader": DataLoader(rows, batch_size=4),  # type: ignore[arg-type]
        "tokens_a": torch.randint(0, 40, (5, 10)),
        "tokens_b": torch.randint(0, 40, (9, 8)),
    }


def test_fifteen_lines_go_from_a_model_to_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = page_example()
    assert len(example.strip().splitlines()) <= 16, "fifteen lines of code and a blank one"
    monkeypatch.chdir(tmp_path)
    world = small_world()
    exec(compile(example, "extend.md", "exec"), world)
    assert world["train"].read().shape == (30, 5120)
    assert world["influence"].values.shape == (30, 2)
    assert np.isfinite(world["influence"].values).all()
    assert len(world["chosen"]) == 6
    assert set(world["votes"].tolist()) <= {0, 1, 2}
