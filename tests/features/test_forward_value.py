"""For-Value is the output layer's gradient, and its products are those of gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from icons_repro.core.errors import DataError
from icons_repro.core.settings import DataSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.forward_value import (
    DirectionSums,
    ForwardValues,
    output_gradients,
    room_for,
    task_columns,
)
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import load_model


@pytest.fixture(scope="module")
def opened(small_world: Path, tiny_base: Path):
    dataset, collate = open_dataset(
        small_world / "pool", small_world / "images", tiny_base, DataSettings(max_length=128)
    )
    images = dataset.table.image_counts
    rows = [*np.flatnonzero(images > 0)[[0, 40]].tolist(), *np.flatnonzero(images == 0)[:2]]
    return load_model(tiny_base), collate([dataset[int(i)] for i in rows])


def autograd(model, batch, row: int) -> torch.Tensor:
    """Minus the gradient of the summed loss with respect to the output layer, by autograd."""
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "positions")}
    weight = model.lm_head.weight.detach().clone().requires_grad_(True)
    with torch.no_grad():
        hidden = model.model(**inputs, use_cache=False).last_hidden_state
    targets = batch["labels"][row, 1:]
    told = targets != IGNORE
    loss = functional.cross_entropy(
        hidden[row, :-1][told] @ weight.T, targets[told], reduction="sum"
    )
    loss.backward()
    return -weight.grad


@torch.no_grad()
def test_it_is_minus_autograds_gradient_of_the_summed_loss(opened) -> None:
    model, batch = opened
    for row, found in output_gradients(model, batch):
        with torch.enable_grad():
            expected = autograd(model, batch, row)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("held", [1, 2**28])
def test_values_are_inner_products_with_every_column(
    opened, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = opened
    monkeypatch.setattr("icons_repro.features.forward_value.HELD_FLOATS", held)
    whole = torch.stack([s.flatten() for _, s in output_gradients(model, batch)])
    found = ForwardValues(model, whole[[2, 0]]).rows(batch)["values"]
    torch.testing.assert_close(found, whole @ whole[[2, 0]].T, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_validation_rows_add_up_in_their_columns_and_those_without_answers_stay_out(
    opened,
) -> None:
    model, batch = opened
    batch = {**batch, "labels": batch["labels"].clone(), "positions": torch.arange(4)}
    whole = [s.flatten() for _, s in output_gradients(model, batch)]
    batch["labels"][1] = IGNORE
    sums = DirectionSums(model, room_for(2, model), np.array([0, 0, 1, 0]))
    sums.predict_step(batch, 0)
    assert sums.usable.tolist() == [True, False, True, True]
    torch.testing.assert_close(sums.vectors[0], whole[0] + whole[3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sums.vectors[1], whole[2], rtol=1e-4, atol=1e-4)
    assert ForwardValues(model, sums.vectors).rows(batch)["values"][1].isnan().all()


def test_more_validation_rows_than_fit_are_refused_with_the_numbers(opened) -> None:
    with pytest.raises(DataError, match=r"keeps 100000000 matrices of .* GB; .*round_robin"):
        room_for(10**8, opened[0])


def test_columns_are_named_by_subtask_in_the_order_of_the_rows() -> None:
    names, columns = task_columns([("a", ["", ""]), ("mme", ["ocr", "n", "ocr"])])
    assert names == ["a", "mme/ocr", "mme/n"]
    assert [c.tolist() for c in columns] == [[0, 0], [1, 2, 1]]
