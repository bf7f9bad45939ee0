"""One forward pass: loss, EL2N and margin of the answers, and the last hidden layer.

The statistics are those of one model, by default the warm-up model. All are taken from the same
pass, since the pass is what costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from icons_repro.features.arrays import Column, Columns
from icons_repro.features.predict import FeaturePass, hidden_size, llava_of
from icons_repro.models.batches import IGNORE, Batch, model_inputs

STATISTICS = ("loss", "el2n", "margin")
POOLED = ("hidden_last", "hidden_mean", "hidden_weighted")
TOKEN_BLOCK = 1024
"""Answer tokens whose logits are held at once: 131 MB in float32 for a vocabulary of 32,000."""


@dataclass(frozen=True)
class AnswerTokens:
    """The supervised tokens of a batch, T of them."""

    hidden: torch.Tensor
    """State that predicts each token, `[T, h]`."""
    targets: torch.Tensor
    """The token, int64 `[T]`."""
    rows: torch.Tensor
    """Its row in the batch, int64 `[T]`."""

    def mean_by_row(self, values: torch.Tensor, n: int) -> torch.Tensor:
        """Return the mean of `values` `[T, ...]` over each row's tokens: `[n, ...]`, NaN if none.

        Sums are in float64.
        """
        sums = values.new_zeros((n, *values.shape[1:]), dtype=torch.float64)
        sums = sums.index_add(0, self.rows, values.double())
        counts = torch.bincount(self.rows, minlength=n).reshape(n, *[1] * (values.ndim - 1))
        return sums / counts


def last_states(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the states after the last layer and its norm, `[B, L, h]`."""
    return llava_of(model).model(**model_inputs(batch), use_cache=False).last_hidden_state


def answer_tokens(hidden: torch.Tensor, batch: Batch) -> AnswerTokens:
    """Pick the states `[B, L, h]` that predict answer tokens, of all turns."""
    targets = batch["labels"][:, 1:]
    supervised = targets != IGNORE
    return AnswerTokens(hidden[:, :-1][supervised], targets[supervised], supervised.nonzero()[:, 0])


def token_statistics(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return loss, EL2N and margin of each token, float32 `[T, 3]`, from `[T, V]` and `[T]`.

    loss    -log p_y                     nats
    el2n    ||p - onehot(y)||_2          Paul et al. 2021
    margin  p_y - max_{j != y} p_j       the area under the margin of one checkpoint (D2)
    """
    logits, index = logits.float(), targets[:, None]
    p = logits.softmax(dim=1)
    true = p.gather(1, index)
    error = p.scatter_add(1, index, torch.full_like(true, -1.0))
    rival = p.scatter(1, index, -1.0).amax(dim=1)
    loss = functional.cross_entropy(logits, targets, reduction="none")
    return torch.stack([loss, torch.linalg.vector_norm(error, dim=1), true[:, 0] - rival], dim=1)


def pooled_states(hidden: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return each row's states as one vector, float32 `[B, h]`: `POOLED`, by name.

    Image, question, answer and template tokens count alike in the means; padding does not.

        hidden_last       h_n
        hidden_mean       sum_t h_t / n
        hidden_weighted   sum_t t h_t / sum_t t    (SGPT; hamishivi/automated-instruction-selection,
                                                    compute_influence_cosinesim.py:111-117)
    """
    hidden, counts = hidden.float(), attention_mask.sum(dim=1)
    last = hidden[torch.arange(len(hidden), device=hidden.device), counts - 1]
    total = (hidden * attention_mask[:, :, None]).sum(dim=1)
    weights = (attention_mask.cumsum(dim=1) * attention_mask).float()
    weights = weights / weights.sum(dim=1, keepdim=True)
    weighted = torch.einsum("blh,bl->bh", hidden, weights)
    means = (last, total / counts[:, None], weighted)
    return dict(zip(POOLED, means, strict=True))


class ForwardStatistics(FeaturePass):
    """Fills `loss`, `el2n`, `margin` `[N]` and `hidden_last`, `_mean`, `_weighted` `[N, h]`.

    A row without answer tokens has NaN statistics. Text-only rows are rows like any other.
    """

    def __init__(self, model: nn.Module, dtype: str = "float16") -> None:
        super().__init__()
        self.model = model
        self._stored = dtype

    @property
    def columns(self) -> Columns:
        """Three float32 numbers and three vectors."""
        width = hidden_size(self.model)
        columns: dict[str, Column] = dict.fromkeys(STATISTICS, ((), "float32"))
        return columns | dict.fromkeys(POOLED, ((width,), self._stored))

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward; logits of the answers' tokens alone, a block at a time."""
        hidden = last_states(self.model, batch)
        tokens = answer_tokens(hidden, batch)
        head = llava_of(self.model).lm_head
        blocks = zip(
            tokens.hidden.split(TOKEN_BLOCK), tokens.targets.split(TOKEN_BLOCK), strict=True
        )
        values = torch.cat([token_statistics(head(h), y) for h, y in blocks])
        means = tokens.mean_by_row(values, len(hidden))
        statistics = dict(zip(STATISTICS, means.unbind(dim=1), strict=True))
        return {**statistics, **pooled_states(hidden, batch["attention_mask"])}
