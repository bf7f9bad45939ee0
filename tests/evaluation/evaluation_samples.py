"""Questions, pictures, adapters and lmms-eval's answers for the evaluation tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from icons_repro.core.settings import LoraSettings
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, projector_state

QUESTIONS = (
    ("what color is the circle?", "red"),
    ("how many red dots are there?", "3"),
    ("is the square at the top or bottom? top or bottom or left", "top"),
    ("what digit is shown?", "7"),
    ("which bar is the highest?", "blue"),
)


def picture(rng: np.random.Generator, width: int = 32, height: int = 32) -> Image.Image:
    """A random picture."""
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def random_adapter(base: Path, folder: Path) -> Path:
    """Write an adapter of random, non-zero LoRA weights and a changed projector to `folder`."""
    model = attach_lora(load_model(base), LoraSettings(rank=4, alpha=8, dropout=0.0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or ("projector" in name and "bias" in name):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    save_file(projector_state(model, model.state_dict()), folder / "projector.safetensors")
    return folder


def answers_of(model: Any, include: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return a model's answers by task, through lmms-eval's own evaluator, all in one call."""
    import lmms_eval.evaluator
    from lmms_eval.tasks import TaskManager

    from icons_repro.evaluation.isolation import contained

    with contained(include / "log"):
        report = lmms_eval.evaluator.simple_evaluate(
            model=model,
            tasks=list(names),
            task_manager=TaskManager("ERROR", include_path=[str(include)], include_defaults=False),
            bootstrap_iters=0,
            process_docs_parallel=1,
        )
    return {n: [s["filtered_resps"][0] for s in report["samples"][n]] for n in names}
