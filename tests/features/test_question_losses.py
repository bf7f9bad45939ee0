"""Losses with and without questions are those of the rows that PreSel's own script writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icons_repro.core.settings import DataSettings
from icons_repro.core.types import Record
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.question_losses import (
    AskedAndNot,
    QuestionLosses,
    collated_twice,
    without_questions,
)
from icons_repro.models.answers import answer_losses
from icons_repro.models.llava import load_model


def record(*turns: str, images: int = 1) -> Record:
    raw = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]
    names = tuple(f"{i}.png" for i in range(images))
    return Record(0, "k", {"id": "7", "conversations": raw}, names, "s")


def test_a_row_without_questions_is_its_image_and_all_answers() -> None:
    """data_process/remove_instruction.py:16-34."""
    found = without_questions(record("<image>\nwhat is it", "a dog", "and now", "a cat"))
    assert found.raw == {
        "id": "7",
        "conversations": [
            {"from": "human", "value": "<image>"},
            {"from": "gpt", "value": "a dog a cat"},
        ],
    }
    two = without_questions(record("<image>\n<image>\nsame", "no", images=2))
    assert two.conversations[0]["value"] == "<image>\n<image>"


@torch.no_grad()
def test_both_losses_are_those_of_the_row_alone(small_world: Path, tiny_base: Path) -> None:
    dataset, collate = open_dataset(
        small_world / "pool", small_world / "images", tiny_base, DataSettings(max_length=128)
    )
    rows = np.flatnonzero(dataset.table.image_counts > 0)[[0, 20, 40]].tolist()
    model = load_model(tiny_base)
    pairs = AskedAndNot(dataset)
    batch = collated_twice(collate)([pairs[i] for i in rows])
    found = QuestionLosses(model).rows(batch)
    for n, i in enumerate(rows):
        asked = dataset[i]
        own = without_questions(dataset.table[i])
        bare = replace(asked, conversation=dataset.encoder.encode(own, []))
        for name, sample in (("asked", asked), ("unasked", bare)):
            loss = answer_losses(model, collate([sample]), answers_only=False).item()
            assert found[name][n].item() == pytest.approx(loss, rel=1e-4)
        assert len(bare.conversation.input_ids) < len(asked.conversation.input_ids)
