"""Image tokens after the first layer of the language model, as ScalSelect reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from icons_repro.features.arrays import Columns
from icons_repro.features.embeddings import masked_mean
from icons_repro.features.predict import FeaturePass, hidden_size, llava_of
from icons_repro.models.batches import IGNORE, Batch, model_inputs
from icons_repro.models.families import language_layers


class VisionTokens(FeaturePass):
    """Fills `attended` `[N, h]`, NaN for a row without an image.

    `attended`: the image tokens that the question looks at, after the first layer, averaged. Looked
    at: attention of the first layer, mean over heads and over the tokens that are neither image nor
    answer, normalised over the image tokens; the most attended ones up to and with the one whose
    cumulative sum passes `share`. NaN too for a row without such tokens. Source:
    ChangtiWu/ScalSelect, scripts/feature_extract.py:457-507 (first layer, mean over heads, tokens
    of the user), scripts/feature_extract_sft.py:215-288 (choice and mean). The released code counts
    Qwen's marks around an image as image tokens, and what ends an answer as the user's; here they
    are text, and part of the answer.

    The language model is cut behind its first layer, so the pass costs the vision tower and that.
    """

    def __init__(self, model: nn.Module, share: float = 0.9, dtype: str = "float16") -> None:
        """Take the model over: it loses its later layers."""
        super().__init__()
        self.model = model
        self.llava = llava_of(model)
        blocks: Any = language_layers(model)
        self._share, self._stored = share, dtype
        self.llava.set_attn_implementation("eager")  # fused kernels do not give their weights
        del blocks[1:]
        self._first = self._weights = torch.empty(0)
        blocks[0].self_attn.register_forward_hook(self._keep_weights)
        blocks[0].register_forward_hook(self._keep_first)

    def _keep_weights(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._weights = output[1].float().mean(dim=1)

    def _keep_first(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._first = _states(output)

    @property
    def columns(self) -> Columns:
        """A vector a row."""
        return {"attended": ((hidden_size(self.llava),), self._stored)}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward through what is left of the body."""
        self.llava.model(**model_inputs(batch), use_cache=False)
        real = batch["attention_mask"] > 0
        image = real & (batch["input_ids"] == self.llava.config.image_token_id)
        asking = real & ~image & (batch["labels"] == IGNORE)
        chosen = most_attended(self._weights, asking, image, self._share)
        return {
            "attended": _nan_if_none(masked_mean(self._first, chosen), chosen),
        }


def most_attended(
    weights: torch.Tensor, asking: torch.Tensor, image: torch.Tensor, share: float
) -> torch.Tensor:
    """Return the image tokens that hold `share` of the attention: bool `[B, L]`, none if none ask.

    `weights` `[B, L, L]` from a token (second axis) to another; `asking` and `image` bool `[B, L]`.
    Where no attention reaches the image it is uniform. Equal tokens come in their order.
    """
    attention = (weights * asking[:, :, None]).sum(dim=1) * image  # no product: autocast rounds it
    total = attention.sum(dim=1, keepdim=True)
    counts = image.sum(dim=1, keepdim=True)
    uniform = image / counts.clamp_min(1)
    attention = torch.where(total > 0, attention / total.clamp_min(1e-38), uniform)
    order = attention.masked_fill(~image, -1).argsort(dim=1, descending=True, stable=True)
    before = attention.gather(1, order).cumsum(dim=1).roll(1, dims=1)
    before[:, 0] = 0
    taken = torch.zeros_like(image).scatter(1, order, before <= share)
    return taken & image & asking.any(dim=1, keepdim=True)


def _states(output: Any) -> torch.Tensor:
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states.float()


def _nan_if_none(means: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return means.masked_fill(~mask.any(dim=1, keepdim=True), torch.nan)
