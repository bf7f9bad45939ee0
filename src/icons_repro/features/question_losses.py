"""Losses of the same answers with their questions and without, as PreSel compares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from icons_repro.core.types import IMAGE_TOKEN, Record
from icons_repro.data.dataset import ConversationDataset, Sample
from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass
from icons_repro.models.answers import answer_losses
from icons_repro.models.batches import Batch

UNASKED = "unasked"
"""Where a batch has the rows without their questions, as a batch of its own."""


class AskedAndNot(Dataset[tuple[Sample, Sample]]):
    """Each row twice: as it is, and as its image and its answers alone."""

    def __init__(self, rows: ConversationDataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Sample, Sample]:
        asked = self.rows[position]
        record = self.rows.table[int(position)]
        images = [self.rows.images.load(name) for name in record.images]
        encoded = self.rows.encoder.encode(without_questions(record), images)
        return asked, replace(asked, conversation=encoded)


def without_questions(record: Record) -> Record:
    """Return the row with its images for a question and all answers, a space between, for one.

    Source: bardisafa/PreSel, data_process/remove_instruction.py:16-34.
    """
    answers = [turn["value"] for turn in record.conversations if turn["from"] == "gpt"]
    turns = [
        {"from": "human", "value": "\n".join([IMAGE_TOKEN] * len(record.images))},
        {"from": "gpt", "value": " ".join(answers)},
    ]
    return replace(record, raw={**record.raw, "conversations": turns})


def collated_twice(collate: Callable[[Sequence[Sample]], Batch]) -> Callable[[Any], Any]:
    """Return a collator of pairs: the batch of the firsts, with that of the seconds inside."""

    def pairs(samples: Sequence[tuple[Sample, Sample]]) -> dict[str, Any]:
        asked, unasked = zip(*samples, strict=True)
        return {**collate(asked), UNASKED: collate(unasked)}

    return pairs


class QuestionLosses(FeaturePass):
    """Fills `asked` and `unasked` `[N]`: mean loss of the answers' tokens, in nats.

    Source: bardisafa/PreSel, presel/loss_ppl_calc.py:97-136, run on both files.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def columns(self) -> Columns:
        """Two numbers a row."""
        return dict.fromkeys(("asked", UNASKED), ((), "float32"))

    def rows(self, batch: Any) -> dict[str, torch.Tensor]:
        """Two forwards."""
        asked = {name: value for name, value in batch.items() if name != UNASKED}
        return {"asked": self._losses(asked), UNASKED: self._losses(batch[UNASKED])}

    def _losses(self, batch: Batch) -> torch.Tensor:
        return answer_losses(self.model, batch).float()
