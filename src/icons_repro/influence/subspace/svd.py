"""The leading singular vectors of a task's validation gradients, by their Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Subspace:
    """What a task's rows G [M, D] = U S V^T leave: the r leading right singular vectors."""

    directions: torch.Tensor
    """V^T, rows of length one: float32 `[r, D]`."""
    rows: torch.Tensor
    """The rows in it, U S: float32 `[M, r]`."""


def subspace(gradients: torch.Tensor, rank: int) -> Subspace:
    """Decompose raw gradients `[M, D]`, not scaled to length one.

    V^T = S^-1 U^T G, from the eigenvectors U and eigenvalues S^2 of G G^T, in float64. Directions
    without weight are left out. Source: GuanghuiMin/GIST, gist/get_gist_gradients.py:147-196.
    """
    g = gradients.double()
    squares, vectors = torch.linalg.eigh(g @ g.T)
    squares, vectors = squares.flip(0), vectors.flip(1)
    floor = squares[0].clamp_min(0) * len(g) * torch.finfo(torch.float64).eps
    kept = min(rank, int((squares > floor).sum()))
    lengths, vectors = squares[:kept].sqrt(), vectors[:, :kept]
    directions = (vectors.T @ g) / lengths[:, None]
    return Subspace(directions.float(), (vectors * lengths).float())


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of length one; rows of zeros stay."""
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(lengths > 0, lengths, 1.0)
