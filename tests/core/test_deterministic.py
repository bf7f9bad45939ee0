"""Deterministic algorithms: on for the while, refused by what has none, then as before."""

from __future__ import annotations

import pytest
import torch
from steps import Number

from icons_repro.core.deterministic import deterministic_algorithms, is_refused, same_bits
from icons_repro.core.faults import in_one_line
from icons_repro.core.settings import TrainerSettings


def is_on() -> bool:
    return torch.are_deterministic_algorithms_enabled()


def without_a_deterministic_algorithm() -> None:
    torch.zeros(4).kthvalue(1)
    torch.ones(3).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)


def test_it_is_on_for_the_while_and_an_operation_without_one_is_refused() -> None:
    without_a_deterministic_algorithm()
    with deterministic_algorithms():
        assert is_on()
        with pytest.raises(RuntimeError) as refused:
            without_a_deterministic_algorithm()
    assert not is_on()
    assert is_refused(refused.value)
    assert not is_refused(RuntimeError("another"))
    line = in_one_line(refused.value, Number(value=1))
    assert "trainer.deterministic=false" in line
    assert "\n" not in line


def test_a_training_is_held_to_them_on_a_gpu_alone_and_unless_told_otherwise() -> None:
    gpu = TrainerSettings("gpu")
    for trainer, held in (
        (gpu, True),
        (TrainerSettings(), False),
        (TrainerSettings("gpu", deterministic=False), False),
    ):
        with same_bits(trainer):
            assert is_on() == held
    assert not is_on()
