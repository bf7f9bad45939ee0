"""Torch's side of clustering and neighbour search, for a GPU.

Products are float32 in the precision that torch is set to (its default is the full one), sums are
float64, and nothing here adds with atomics, so one machine gives the same bits in every run. They
are not the CPU's bits.
"""

from __future__ import annotations

import numpy as np
import torch

from icons_repro.features.assigner import Found
from icons_repro.features.rows import FeatureRows

TILE_FLOATS = 2**26
"""Similarities that exist at once: 256 MB."""


def has_device(name: str) -> bool:
    """Whether torch finds this device in this process."""
    return torch.device(name).type != "cuda" or torch.cuda.is_available()


class TorchAssigner:
    """See `assigner.Assigner`."""

    def __init__(self, device: str, centroids: np.ndarray, spherical: bool) -> None:
        self._centroids = torch.from_numpy(centroids).to(device)
        self._squares = None if spherical else self._centroids.square().sum(dim=1)

    def search(self, x: np.ndarray, sums: bool) -> Found:
        """See `Assigner.search`."""
        rows = torch.from_numpy(x).to(self._centroids.device)
        fits, labels = zip(*map(self._nearest, rows.split(self._height)), strict=True)
        label = torch.cat(labels)
        part = _grouped_sums(rows, label) if sums else None
        return torch.cat(fits).cpu().numpy(), label.cpu().numpy(), part

    def totals(self) -> TorchTotals:
        """See `Assigner.totals`."""
        return TorchTotals(self._centroids)

    @property
    def _height(self) -> int:
        return max(1, TILE_FLOATS // len(self._centroids))

    def _nearest(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        products = x @ self._centroids.T
        if self._squares is None:
            fit, label = products.max(dim=1)
            return fit, label
        fit, label = (self._squares - 2 * products).min(dim=1)
        return (fit + x.square().sum(dim=1)).clamp(min=0), label


class TorchTotals:
    """See `assigner.Totals`; the sums stay on the device."""

    def __init__(self, like: torch.Tensor) -> None:
        self._like = like
        self._sums: torch.Tensor | None = None

    def add(self, part: tuple[torch.Tensor, torch.Tensor]) -> None:
        """See `Totals.add`; the labels of one part are distinct."""
        if self._sums is None:
            self._sums = torch.zeros_like(self._like, dtype=torch.float64)
        labels, values = part
        self._sums[labels] = self._sums[labels] + values

    def read(self, clusters: slice) -> np.ndarray:
        """See `Totals.read`."""
        if self._sums is None:
            return np.zeros(self._like[clusters].shape)
        return self._sums[clusters].cpu().numpy()


def _grouped_sums(x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels that occur, ascending, and the sums of their rows in a fixed order, float64."""
    order = torch.argsort(labels, stable=True)
    present, counts = torch.unique_consecutive(labels[order], return_counts=True)
    sums = torch.segment_reduce(x[order].double(), "sum", lengths=counts, axis=0)
    return present, sums


class TorchFlatIndex:
    """Exact neighbours; rows stay on the device in the type in which they are stored."""

    def __init__(self, rows: FeatureRows, cosine: bool, device: str) -> None:
        self._unit = rows.unit
        self._cosine = cosine
        self._data = torch.cat(
            [torch.from_numpy(rows.array[rows.order[p]]).to(device) for p in rows.slices()]
        )

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `neighbours.Index.search`; places beyond the rows there are do not occur."""
        queries = torch.from_numpy(x).to(self._data.device)
        height = max(1, TILE_FLOATS // max(len(queries), 1))
        values = queries.new_empty(len(queries), 0)
        places = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(self._data), height):
            scores = self._scores(queries, self._data[start : start + height])
            found = scores.topk(min(k, scores.shape[1]), dim=1)
            values = torch.cat([values, found.values], dim=1)
            places = torch.cat([places, found.indices + start], dim=1)
            best = values.topk(min(k, values.shape[1]), dim=1)
            values, places = best.values, places.gather(1, best.indices)
        values = values if self._cosine else -values
        return values.cpu().numpy(), places.cpu().numpy()

    def _scores(self, queries: torch.Tensor, tile: torch.Tensor) -> torch.Tensor:
        """Inner products, or minus the squared distances: higher is nearer. `[m, t]`."""
        rows = tile.float()
        if self._unit:
            norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).float()
            rows = rows / torch.where(norms > 0, norms, 1)[:, None]
        products = queries @ rows.T
        if self._cosine:
            return products
        squares = queries.square().sum(dim=1)[:, None] + rows.square().sum(dim=1)
        return -(squares - 2 * products).clamp(min=0)
