"""Singular values of token states equal those of one row alone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from icons_repro.core.settings import DataSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.spectrum import SpectrumFeatures, spectrum
from icons_repro.models.batches import model_inputs
from icons_repro.models.llava import load_model


@torch.no_grad()
def test_entropy_share_and_last_state_are_those_of_the_row_without_padding(
    small_world: Path, tiny_base: Path
) -> None:
    settings = DataSettings(max_length=128)
    dataset, collate = open_dataset(
        small_world / "pool", small_world / "images", tiny_base, settings
    )
    images = dataset.table.image_counts
    rows = [*np.flatnonzero(images > 0)[:2].tolist(), *np.flatnonzero(images == 0)[:2].tolist()]
    model = load_model(tiny_base)
    found = SpectrumFeatures(model, "float32").rows(collate([dataset[i] for i in rows]))
    seen: list[torch.Tensor] = []
    model.model.language_model.layers[-1].register_forward_hook(lambda m, a, out: seen.append(out))
    for n, i in enumerate(rows):
        model.model(**model_inputs(collate([dataset[i]])), use_cache=False)
        states = seen[-1][0].double().numpy()
        values = np.linalg.svd(states, compute_uv=False)
        shares = [v / values.sum() for v in values]
        entropy = -sum(p * math.log(p) for p in shares if p > 0)
        assert found["entropy"][n].item() == pytest.approx(entropy, rel=1e-4)
        assert found["top_share"][n].item() == pytest.approx(max(shares), rel=1e-4)
        np.testing.assert_allclose(found["last"][n].numpy(), states[-1], rtol=1e-4, atol=1e-5)


def test_one_direction_has_no_entropy_and_equal_ones_the_logarithm_of_their_number() -> None:
    alike = spectrum(torch.ones(5, 1) * torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(alike, torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)
    even = spectrum(2 * torch.eye(4, 7))
    torch.testing.assert_close(even, torch.tensor([math.log(4), 0.25]))
