"""Logits and losses of the answer tokens alone: most positions predict nothing that is trained.

Training, gradients and features all take their losses from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from icons_repro.models.batches import IGNORE, Batch, answer_counts, model_inputs


def base_model(model: nn.Module) -> nn.Module:
    """Return the transformers model inside a PEFT wrapper, or the model itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model


def answer_logits(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    *,
    answers_only: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of the T answer tokens, float32 (or float64) `[T, V]`, and the tokens.

    Args:
        model: a PEFT or plain transformers model with an output layer.
        inputs: what its `forward` takes, without labels.
        labels: int64 `[B, L]`, `IGNORE` where a token is no answer.
        answers_only: run the output layer on the answers' positions alone: the same numbers,
            without logits that nobody reads. False computes them all first.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORE
    split = _split_head(model) if answers_only else None
    if split is None:
        logits = model(**inputs, use_cache=False).logits[:, :-1][supervised]
    else:
        body, head = split
        hidden = body(**inputs, use_cache=False).last_hidden_state
        logits = head(hidden[:, :-1][supervised])
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits, targets[supervised]


def token_losses(
    model: nn.Module, batch: Batch, *, answers_only: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of each answer token `[T]`, nats, and its row, int64 `[T]`."""
    logits, targets = answer_logits(
        model, model_inputs(batch), batch["labels"], answers_only=answers_only
    )
    counts = answer_counts(batch)
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return functional.cross_entropy(logits, targets, reduction="none"), rows


def answer_losses(model: nn.Module, batch: Batch, *, answers_only: bool = True) -> torch.Tensor:
    """Return each sample's loss `[B]`: cross-entropy in nats, mean over its answer tokens.

        L(z) = -1/|A| * sum over t in A of log p(y_t | y_<t)

    A holds the answer tokens of all turns of the record. A row without any has loss 0. See
    `answer_logits` for `answers_only`.
    """
    tokens, rows = token_losses(model, batch, answers_only=answers_only)
    counts = answer_counts(batch)
    losses = tokens.new_zeros(len(counts))
    return losses.index_add(0, rows, tokens / counts[rows].to(tokens.dtype))


def _split_head(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return (body, head) where logits are just head(body's last hidden state)."""
    base: Any = base_model(model)
    body = getattr(base, "model", None)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    config: Any = getattr(base, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    changed = any(getattr(text, k, None) for k in ("final_logit_softcapping", "logit_scale"))
    return None if body is None or head is None or changed else (body, head)
