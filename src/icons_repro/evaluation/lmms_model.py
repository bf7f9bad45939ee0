"""Our model plugin for lmms-eval: any transformers LLaVA, with or without an adapter folder.

Importing this module imports lmms-eval (seconds), so only the evaluate stage does it. lmms-eval
0.7.3 takes an instance (`simple_evaluate(model=...)`), and finds the class by name through the
manifest in `plugin.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from icons_repro.core.errors import UserError
from icons_repro.evaluation.ahead import prepared_ahead
from icons_repro.evaluation.answers import picture_digest
from icons_repro.evaluation.generation import (
    BatchedGenerator,
    Decoding,
    ImageTransform,
    Prompt,
    images_in,
)


class SliceAnswered(Exception):  # noqa: N818 (no error: it ends lmms-eval's run early)
    """The asked slice of a task's questions is answered; nothing is scored."""

    def __init__(self, texts: Mapping[int, str], pictures: Mapping[int, str]) -> None:
        """Take the answers by request number, and the questions' pictures by `doc_id`."""
        super().__init__(f"{len(texts)} answers")
        self.texts, self.pictures = dict(texts), dict(pictures)


class LlavaLmms(lmms):
    """Batched, left-padded, greedy answers; the same as one request at a time.

    A thread opens and prepares the pictures of the next batch while the model answers this one.
    """

    is_simple = False

    def __init__(
        self,
        model_dir: str | Path,
        adapter_dir: str | Path | None = None,
        batch_size: int = 128,
        device: str = "cpu",
        dtype: str = "float32",
        image_transform: ImageTransform | None = None,
        **_unused: Any,
    ) -> None:
        """Load the model; `batch_size` is in questions. lmms-eval passes more keys by name."""
        super().__init__()
        self.batch_size = int(batch_size)
        self.device = torch.device(device)
        self.progress: Callable[[int], Any] | None = None
        self.slice: tuple[int, int] | None = None
        """Answer only every n-th batch, from the k-th, and raise `SliceAnswered`."""
        self.answered: Mapping[int, str] = {}
        """Answers that are known, by request number."""
        self.pictures: dict[str, dict[int, str]] = defaultdict(dict)
        """By task and `doc_id`: which pictures a question was asked about (`picture_digest`)."""
        self._generator = BatchedGenerator.load(
            Path(model_dir),
            Path(adapter_dir) if adapter_dir else None,
            dtype=getattr(torch, dtype),
            device=device,
            image_transform=image_transform,
        )

    def clean(self) -> None:
        """Keep the model: lmms-eval calls this after each task, and one model answers them all."""

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests of any tasks, longest first; return the answers in the given order."""
        texts = dict(self.answered)
        with tqdm(
            total=len(requests), desc="answering", unit="question", disable=bool(self.progress)
        ) as bar:
            batches = self._batches(requests)
            asked = [batch for batch in batches if not texts.keys() >= set(batch[1])]
            (self.progress or bar.update)(_questions(batches) - _questions(asked))
            for (decoding, rows), inputs in prepared_ahead(partial(self._inputs, requests), asked):
                texts |= zip(rows, self._answer(inputs, decoding), strict=True)
                (self.progress or bar.update)(len(rows))
        if self.slice is not None:
            raise SliceAnswered(texts, self.pictures.pop(requests[0].task_name, {}))
        return [GenerationResult(texts[row], TokenCounts()) for row in range(len(requests))]

    def _batches(self, requests: Sequence[Instance]) -> list[tuple[Decoding, list[int]]]:
        """Return batches of request numbers, planned over all requests; of a slice, its share."""
        batches = [
            (decoding, order[start : start + self.batch_size])
            for decoding, order in self._groups(requests)
            for start in range(0, len(order), self.batch_size)
        ]
        first, step = self.slice or (0, 1)
        return batches[first::step]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: every benchmark of the paper is answered by generation."""
        raise UserError(self._refusal("log-likelihoods", requests))

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: every benchmark of the paper asks one question at a time."""
        raise UserError(self._refusal("several rounds", requests))

    @staticmethod
    def _refusal(what: str, requests: Sequence[Instance]) -> str:
        return (
            f"task {requests[0].task_name!r} asks for {what}; this model answers by greedy "
            "generation in one round. Choose the benchmark's generate_until variant."
        )

    def _groups(self, requests: Sequence[Instance]) -> list[tuple[Decoding, list[int]]]:
        """Group request numbers by decoding, each group longest question first."""
        groups: dict[Decoding, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[Decoding.of(request.args[2])].append(number)
        for order in groups.values():
            order.sort(key=lambda number: -len(requests[number].args[0]))
        return list(groups.items())

    def _inputs(self, requests: Sequence[Instance], batch: tuple[Decoding, list[int]]) -> Any:
        """Open a batch's pictures and make its tokens and pixels, in another thread."""
        return self._generator.inputs([self._prompt(requests[row]) for row in batch[1]])

    def _answer(self, inputs: Any, decoding: Decoding) -> list[str]:
        return self._generator.answer_inputs(inputs, decoding)

    def _prompt(self, request: Instance) -> Prompt:
        _, doc_to_messages, _, doc_id, task, split = request.args
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        if digest := picture_digest(images_in(messages)):
            self.pictures[task][int(doc_id)] = digest
        return self._generator.prompt(messages)


def _questions(batches: Sequence[tuple[Decoding, list[int]]]) -> int:
    return sum(len(rows) for _, rows in batches)
