"""Forward statistics and hidden states equal a slow, literal computation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from icons_repro.core.settings import DataSettings, LoraSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.forward_stats import (
    ForwardStatistics,
    answer_tokens,
    token_statistics,
)
from icons_repro.models.answers import answer_losses
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora


@pytest.fixture(scope="module")
def opened(small_world: Path, tiny_base: Path):
    dataset, collate = open_dataset(
        small_world / "pool", small_world / "images", tiny_base, DataSettings(max_length=128)
    )
    model = attach_lora(load_model(tiny_base), LoraSettings(rank=2, alpha=4, dropout=0.0))
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(p, std=0.05)
    return dataset, collate, model.eval()


@pytest.fixture(scope="module")
def rows(opened) -> list[int]:
    """Two rows with an image and two without, of different length."""
    images = opened[0].table.image_counts
    return [*np.flatnonzero(images > 0)[[0, 40]].tolist(), *np.flatnonzero(images == 0)[:2]]


def test_token_statistics_of_a_hand_worked_token() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]])
    loss, el2n, margin = token_statistics(p.log(), torch.tensor([1]))[0].tolist()
    assert loss == pytest.approx(-math.log(0.3))
    assert el2n == pytest.approx(math.sqrt(0.5**2 + 0.7**2 + 0.2**2))
    assert margin == pytest.approx(0.3 - 0.5)


@torch.no_grad()
def literal(opened, position: int) -> dict[str, np.ndarray]:
    """One row alone, token by token, from the logits of the whole sequence."""
    dataset, collate, model = opened
    batch = collate([dataset[position]])
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "positions")}
    out = model(**inputs, use_cache=False, output_hidden_states=True)
    labels, logits = batch["labels"][0].tolist(), out.logits[0].double().numpy()
    found: dict[str, list[float]] = {"loss": [], "el2n": [], "margin": []}
    for t, label in enumerate(labels):
        if label == IGNORE:
            continue
        p = np.exp(logits[t - 1] - logits[t - 1].max())
        p /= p.sum()
        onehot = np.zeros(len(p))
        onehot[label] = 1
        found["loss"].append(-np.log(p[label]))
        found["el2n"].append(np.sqrt(((p - onehot) ** 2).sum()))
        found["margin"].append(p[label] - np.delete(p, label).max())
    states = out.hidden_states[-1][0].numpy()
    means = {name: np.mean(values) for name, values in found.items()}
    weights = np.arange(1, len(states) + 1)
    weighted = (states * weights[:, None]).sum(axis=0) / weights.sum()
    pooled = {"hidden_mean": states.mean(axis=0), "hidden_weighted": weighted}
    return {**means, "hidden_last": states[-1], **pooled}


@torch.no_grad()
def test_a_padded_mixed_batch_gives_each_row_its_literal_values(opened, rows) -> None:
    dataset, collate, model = opened
    found = ForwardStatistics(model).rows(collate([dataset[i] for i in rows]))
    for b, position in enumerate(rows):
        for name, value in literal(opened, position).items():
            np.testing.assert_allclose(found[name][b].numpy(), value, rtol=2e-4, atol=2e-5)


@torch.no_grad()
def test_answer_losses_alone_are_the_loss_of_the_statistics(opened, rows) -> None:
    dataset, collate, model = opened
    batch = collate([dataset[i] for i in rows])
    expected = ForwardStatistics(model).rows(batch)["loss"].float()
    torch.testing.assert_close(answer_losses(model, batch), expected)


@torch.no_grad()
def test_a_row_without_answer_tokens_has_no_statistics_but_has_states(opened, rows) -> None:
    dataset, collate, model = opened
    batch = collate([dataset[i] for i in rows])
    batch["labels"][1] = IGNORE
    found = ForwardStatistics(model).rows(batch)
    for name in ("loss", "el2n", "margin"):
        assert found[name].isfinite().tolist() == [True, False, True, True]
    assert found["hidden_mean"].isfinite().all()


def test_means_by_row_count_each_token_once() -> None:
    hidden = torch.zeros(2, 3, 1)
    labels = torch.tensor([[IGNORE, 5, 6], [IGNORE, IGNORE, 7]])
    tokens = answer_tokens(hidden, {"labels": labels})
    means = tokens.mean_by_row(torch.tensor([1.0, 3.0, 8.0]), 2)
    assert means.tolist() == [2.0, 8.0]
