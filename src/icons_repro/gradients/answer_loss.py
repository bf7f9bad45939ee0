"""The loss whose gradient is taken: mean token cross-entropy over one sample's answer tokens."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from icons_repro.gradients.batches import Batch, answer_counts, model_inputs
from icons_repro.models.answers import answer_logits


def answer_losses(model: nn.Module, batch: Batch, *, answers_only: bool = True) -> torch.Tensor:
    """Return each sample's loss `[B]`: cross-entropy in nats, mean over its answer tokens.

        L(z) = -1/|A| * sum over t in A of log p(y_t | y_<t)

    A holds the answer tokens of all turns of the record. A row without any has loss 0. See
    `answer_logits` for `answers_only`.
    """
    inputs, labels = model_inputs(batch), batch["labels"]
    logits, targets = answer_logits(model, inputs, labels, answers_only=answers_only)
    tokens = functional.cross_entropy(logits, targets, reduction="none")
    counts = answer_counts(batch)
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    losses = tokens.new_zeros(len(counts))
    return losses.index_add(0, rows, tokens / counts[rows].to(tokens.dtype))
