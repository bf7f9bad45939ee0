"""A small model, adapters and benchmark files for the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation_samples import QUESTIONS, picture, png, random_adapter


@pytest.fixture(autouse=True)
def _private_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hf"))
    for variable in ("OPENAI_API_KEY", "AZURE_API_KEY", "API_TYPE", "OPENAI_API_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter folder with random, non-zero LoRA weights and a changed projector."""
    folder = tmp_path_factory.mktemp("adapter")
    random_adapter(tiny_base, folder)
    return folder


@pytest.fixture
def write_benchmark() -> Callable[..., Path]:
    """Write a benchmark file of `rows` questions; every fifth has no picture, unless all shall."""

    def write(
        folder: Path,
        name: str,
        rows: int = 12,
        answers: tuple[str, ...] = (),
        every_row_pictured: bool = False,
        width: int = 32,
    ) -> Path:
        rng = np.random.default_rng(len(name))
        table = []
        for i in range(rows):
            question, answer = QUESTIONS[i % len(QUESTIONS)]
            image = {"bytes": png(picture(rng, width)), "path": f"{i}.png"}
            table.append(
                {
                    "question_id": f"{name}_{i:05d}",
                    "image": None if i % 5 == 4 and not every_row_pictured else image,
                    "question": question,
                    "answer": answers[i % len(answers)] if answers else answer,
                    "skill": "dots",
                    "category": "open",
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
        return folder / f"{name}.parquet"

    return write
