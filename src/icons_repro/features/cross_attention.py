"""How a row's text attends to its image, summed over all layers, as a few singular values."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from icons_repro.core.errors import ConfigError
from icons_repro.features.arrays import Columns
from icons_repro.features.predict import FeaturePass, llava_of
from icons_repro.models.batches import Batch, model_inputs
from icons_repro.models.families import language_layers

SINGULAR_VALUES = 5


class CrossAttention(FeaturePass):
    """Fills `values` float32 `[N, 5]`: singular values of a row's cross-modal attention.

        A = sum over layers of softmax(Q K^T / sqrt(w)) [text, image],   values = sigma_1 .. sigma_5

    Q and K `[L, w]` are what `q_proj` and `k_proj` give, all heads as one, before any rotation;
    keys are all tokens of the row, later ones too; text is what follows the image's first token,
    image tokens left out. Descending, zero where A has fewer; NaN in a row without an image.

    Source: BigML-CS-UCLA/XMAS, XMAS/get_trajectory.py:18-53 (scores), 121-134 (the slice, the sum
    over layers) and 284-288 (the values), with XMAS/scripts/inference/trajectory.sh:49-55. Theirs
    has padding among the keys and the text, so that a row depends on its batch, begins the text one
    token after the image's end, and draws its values at random (`svd_lowrank`); ours leaves padding
    out, begins where the image ends, and takes them exactly. Where keys
    have fewer heads than queries, each key head is repeated for its queries (theirs repeats
    numbers, for models that it was not run with).
    """

    def __init__(self, model: nn.Module) -> None:
        """Hook every layer. Raises `ConfigError` for a model with queries and keys in one matrix.

        One layer's queries and keys are held at a time.
        """
        super().__init__()
        self.model = model
        self.llava = llava_of(model)
        self._held: dict[str, torch.Tensor] = {}
        self._sums: list[torch.Tensor | None] = []
        self._batch: Batch | None = None
        blocks: Any = language_layers(model)
        for block in blocks:
            own = block.self_attn
            for name in ("q_proj", "k_proj"):
                if not hasattr(own, name):
                    raise ConfigError(
                        f"selector=xmas reads {name} of each layer, which {type(own).__name__} "
                        "lacks: choose another model, or a selection_model that has it."
                    )
                getattr(own, name).register_forward_hook(self._keeper(name, own.head_dim))

    def _keeper(self, name: str, head: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            if self._batch is None:  # somebody else's pass
                return
            self._held[name] = output
            if len(self._held) == 2:
                self._add(self._batch, self._held["q_proj"], self._held["k_proj"], head)
                self._held.clear()

        return keep

    @property
    def columns(self) -> Columns:
        """A few numbers a row."""
        return {"values": ((SINGULAR_VALUES,), "float32")}

    def rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One forward through the body; the hooks add up layer by layer."""
        self._batch, self._sums = batch, [None] * len(batch["input_ids"])
        self._held.clear()
        self.llava.model(**model_inputs(batch), use_cache=False)
        self._batch = None
        none = torch.full((SINGULAR_VALUES,), torch.nan, device=batch["input_ids"].device)
        values = [
            none if found is None else top_singular_values(found, SINGULAR_VALUES)
            for found in self._sums
        ]
        return {"values": torch.stack(values)}

    def _add(self, batch: Batch, q: torch.Tensor, k: torch.Tensor, head: int) -> None:
        """Add a layer's attention of each row that has an image."""
        real = batch["attention_mask"] > 0
        image = real & (batch["input_ids"] == self.llava.config.image_token_id)
        text = real & ~image & (image.cumsum(dim=1) > 0)
        for row in torch.nonzero(image.any(dim=1))[:, 0].tolist():
            keys = repeated_heads(k[row][real[row]], q.shape[-1], head)
            scores = cross_attention(q[row][text[row]], keys, image[row][real[row]])
            before = self._sums[row]
            self._sums[row] = scores if before is None else before + scores


def cross_attention(q: torch.Tensor, k: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(w)) of the `image` keys alone: float32 `[t, m]`.

    `q` `[t, w]` of the text, `k` `[n, w]` of all tokens, `image` bool `[n]` with m that are true.
    """
    scores = q.float() @ k.float().T / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1)[:, image]


def repeated_heads(k: torch.Tensor, width: int, head: int) -> torch.Tensor:
    """Return keys `[n, w_k]` as wide as the queries: each head as often as queries share it."""
    times = width // k.shape[-1]
    return k.unflatten(-1, (-1, head)).repeat_interleave(times, dim=1).flatten(1)


def top_singular_values(matrix: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` largest singular values of `[t, m]`, descending, zeros behind: float32.

    They are roots of the eigenvalues of the smaller Gram matrix, taken in float64.
    """
    wide = matrix.double()
    gram = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    found = torch.linalg.eigvalsh(gram).flip(0)[:count].clamp_min(0).sqrt()
    return torch.nn.functional.pad(found, (0, count - len(found))).float()
