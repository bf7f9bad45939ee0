"""Which rows go into which batch, decided ahead of time from lengths alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Batches = list[np.ndarray]
"""Pool positions of each batch, int64."""


def modality_length_batches(
    words: np.ndarray, has_image: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Batches:
    """Group rows `[N]` into global batches of one modality each, in random order.

    As LLaVA's `group_by_modality_length` (llava/train/llava_trainer.py): each modality is shuffled
    and cut into global batches, longest row first inside a batch so that its micro-batches balance,
    and what does not fill a batch in either modality ends in one mixed batch. No row is left out.
    """
    batches: Batches = []
    leftover: list[np.ndarray] = []
    for modality in (has_image, ~has_image):
        rows = rng.permutation(np.flatnonzero(modality))
        whole = len(rows) // batch_size * batch_size
        for start in range(0, whole, batch_size):
            batch = rows[start : start + batch_size]
            batches.append(batch[np.argsort(-words[batch], kind="stable")])
        leftover.append(rows[whole:])
    batches = [batches[i] for i in rng.permutation(len(batches))]
    rest = np.concatenate(leftover)
    return batches + [rest[i : i + batch_size] for i in range(0, len(rest), batch_size)]


def random_batches(n: int, batch_size: int, rng: np.random.Generator) -> Batches:
    """Cut a random permutation of `n` rows into batches."""
    rows = rng.permutation(n)
    return [rows[i : i + batch_size] for i in range(0, n, batch_size)]


def token_budget_batches(lengths: np.ndarray, budget: int, max_rows: int = 64) -> Batches:
    """Cut rows `[N]`, sorted by length, into batches of at most `budget` padded tokens.

    A row longer than the budget makes a batch of its own. Longest first, so that a batch which does
    not fit in memory shows itself at once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: Batches = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, min(max_rows, budget // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


def split_for_ranks(batch: np.ndarray, parts: int) -> Batches:
    """Deal one global batch out into `parts` micro-batches of nearly equal size and length.

    A batch with fewer rows than parts is filled up from its own start, so that every rank steps.
    """
    if len(batch) < parts:
        batch = np.resize(batch, parts)
    return [batch[part::parts] for part in range(parts)]


class FixedBatches(Sampler[list[int]]):
    """A batch sampler over batches decided ahead of time, which can start in the middle.

    `len` is always the whole number of batches, so that a resumed loop ends where it should.
    """

    def __init__(self, batches: Batches, start: int = 0) -> None:
        self.batches = batches
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches[self.start :]:
            yield batch.tolist()

    def __len__(self) -> int:
        return len(self.batches)
