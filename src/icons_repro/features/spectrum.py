"""How evenly a row's token states spread over directions, as DataTailor reads it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass, hidden_size, llava_of
from icons_repro.models.batches import Batch, model_inputs
from icons_repro.models.families import language_layers


class SpectrumFeatures(FeaturePass):
    """Fills `entropy` and `top_share` `[N]` and `last` `[N, h]`.

    Of the states M `[L, h]` of a row's tokens (image, question, answer and template alike) after
    the last layer and before its norm, with singular values sigma, p = sigma / sum sigma: `entropy`
    is - sum p log p (nats), `top_share` the largest p, `last` the last token's state. Source:
    Yuqifan1117/DataTailor, llava/model/modeling_llama.py:1040-1059, which takes them while LoRA is
    trained for one epoch on all rows; here one model gives them all.
    """

    def __init__(self, model: nn.Module, dtype: str = "float16") -> None:
        super().__init__()
        self.model, self._stored = model, dtype
        self._states = torch.empty(0)
        layers: Any = language_layers(model)
        layers[-1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._states = (output[0] if isinstance(output, tuple) else output).float()

    @property
    def columns(self) -> Columns:
        """Two numbers and a vector a row."""
        numbers: Columns = dict.fromkeys(("entropy", "top_share"), ((), "float32"))
        return {**numbers, "last": ((hidden_size(self.model),), self._stored)}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward through the body, and the singular values of one row after the other."""
        llava_of(self.model).model(**model_inputs(batch), use_cache=False)
        real = batch["attention_mask"] > 0
        states = [own[mask] for own, mask in zip(self._states, real, strict=True)]
        spectra = torch.stack([spectrum(own) for own in states])
        last = torch.stack([own[-1] for own in states])
        return {"entropy": spectra[:, 0], "top_share": spectra[:, 1], "last": last}


def spectrum(states: torch.Tensor) -> torch.Tensor:
    """Return entropy and largest share of the singular values of `[L, h]`: `[2]`."""
    values = torch.linalg.svdvals(states)
    shares = values / values.sum()
    return torch.stack([torch.special.entr(shares).sum(), shares.max()])
