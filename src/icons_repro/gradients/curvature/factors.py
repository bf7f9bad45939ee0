"""Kronecker factors of the curvature, one pair for each weight, fitted on captured tensors.

For a linear layer y = x W^T with per-sample gradient G_i = sum over tokens of g_t x_t^T, K-FAC
takes the curvature of W as the Kronecker product of

    S = mean over tokens of g_t g_t^T  [out, out]        A = mean over tokens of x_t x_t^T  [in, in]

With S = U diag(s) U^T and A = V diag(a) V^T its eigenvalues are s_o a_i in the basis U, V; EK-FAC
(George et al. 2018, arXiv:1806.03884) keeps the basis and measures them anew:

    values[o, i] = mean over samples of (U^T G_i V)[o, i]^2

Sources: Martens and Grosse 2015, arXiv:1503.05671; pomonam/kronfluence, kronfluence/module/tracker/
factor.py (`CovarianceTracker`, which leaves padding out, and `LambdaTracker`), kronfluence/factor/
config.py (`Kfac`, `Ekfac`: their use). The gradients are those of the rows' own answers, as
captured (the empirical Fisher); kronfluence samples answers from the model unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from icons_repro.gradients.layout import ParameterLayout

Factors = Mapping[str, torch.Tensor]
"""Of each parameter NAME: `NAME.left` U [out, out], `NAME.right` V [in, in], `NAME.values`."""


@dataclass
class _Pair:
    """Sums over tokens of one layer."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    tokens: int = 0


class Covariances:
    """Sums S and A of every layer over batches; `observe` is what the capture calls."""

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None
        """Which tokens of the batch are no padding, `[B, L]`."""
        self._pairs: dict[str, _Pair] = {}

    def observe(self, layer: str, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add one layer's tokens, padding left out."""
        mask = self.mask
        if mask is not None and x.shape[:-1] == mask.shape:
            x, gradient = x[mask], gradient[mask]
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x.detach().reshape(-1, x.shape[-1]).to(wide)
        gradient = gradient.detach().reshape(-1, gradient.shape[-1]).to(wide)
        if layer not in self._pairs:
            inner, outer = x.shape[1], gradient.shape[1]
            pair = _Pair(x.new_zeros(inner, inner), x.new_zeros(outer, outer))
            self._pairs[layer] = pair
        pair = self._pairs[layer]
        pair.inputs.addmm_(x.T, x)
        pair.outputs.addmm_(gradient.T, gradient)
        pair.tokens += len(x)

    def factors(self, layout: ParameterLayout) -> dict[str, torch.Tensor]:
        """Return K-FAC's factors of every parameter, on the CPU.

        A layer that no batch reached has the identity: nothing is known of it.
        """
        found: dict[str, torch.Tensor] = {}
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            layer, _, kind = name.rpartition(".")
            pair = self._pairs.get(layer)
            out, inner = shape[0], shape[1] if kind == "weight" else 1
            if pair is None:
                left = torch.ones(out), torch.eye(out)
                right = torch.ones(inner), torch.eye(inner)
            else:
                left = _eigen(pair.outputs / pair.tokens)
                one = torch.ones(1), torch.eye(1)
                right = _eigen(pair.inputs / pair.tokens) if kind == "weight" else one
            found[f"{name}.left"], found[f"{name}.right"] = left[1], right[1]
            found[f"{name}.values"] = left[0][:, None] * right[0][None, :]
        return found


def _eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues, none negative, and eigenvectors, float32 on the CPU."""
    values, vectors = torch.linalg.eigh(matrix.double().cpu())
    return values.clamp_min(0).float(), vectors.float().contiguous()


class Eigenvalues:
    """EK-FAC's eigenvalues: mean squares of per-sample gradients in the factors' basis."""

    def __init__(self, factors: Factors, names: Sequence[str]) -> None:
        self._factors = factors
        self._names = names
        self._sums: dict[str, torch.Tensor] = {}
        self.samples = 0

    def add(self, index: int, gradients: torch.Tensor) -> None:
        """Take parameter `index`'s gradients `[B, *shape]` (see `capture.Deliver`)."""
        name = self._names[index]
        rotated = rotate(self._factors, name, gradients)
        total = rotated.square().sum(dim=0).cpu()
        self._sums[name] = total + self._sums.get(name, 0.0)

    def factors(self) -> dict[str, torch.Tensor]:
        """Return the factors with the measured eigenvalues."""
        measured = {f"{n}.values": s / max(1, self.samples) for n, s in self._sums.items()}
        return {**self._factors, **measured}


def rotate(factors: Factors, name: str, gradients: torch.Tensor) -> torch.Tensor:
    """Return U^T G V of gradients `[B, out, in]` (or `[B, out]`, a bias): `[B, out, in]`."""
    left, right = factors[f"{name}.left"], factors[f"{name}.right"]
    matrices = gradients.reshape(len(gradients), left.shape[0], right.shape[0])
    return left.to(matrices).T @ matrices @ right.to(matrices)


def rotate_back(factors: Factors, name: str, rotated: torch.Tensor) -> torch.Tensor:
    """Return U R V^T of `[B, out, in]`."""
    left, right = factors[f"{name}.left"], factors[f"{name}.right"]
    return left.to(rotated) @ rotated @ right.to(rotated).T
