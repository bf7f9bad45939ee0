"""Gradients of the last layers alone: the same numbers, and no backward pass below them."""

from __future__ import annotations

import pytest
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter

from icons_repro.core.errors import ConfigError
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.models.lora import gradient_parameters


def test_they_are_those_of_all_layers_for_these_weights() -> None:
    model, batch = with_adapter(small_llava()), batch_of(MIXED)
    every = PerSampleGradients(model, gradient_parameters(model, "lora"))
    last = PerSampleGradients(model, gradient_parameters(model, "lora:last1"))
    assert 0 < len(last.layout.names) < len(every.layout.names)
    assert all(".layers.1." in name for name in last.layout.names)
    rows, losses = last(batch)
    whole, other = every(batch)
    torch.testing.assert_close(losses, other, rtol=0, atol=0)
    for name, found in zip(last.layout.names, rows, strict=True):
        torch.testing.assert_close(found, whole[every.layout.names.index(name)], rtol=0, atol=0)


def test_the_backward_pass_ends_where_the_last_layers_begin() -> None:
    model, batch = with_adapter(small_llava()), batch_of(MIXED)
    reached: list[str] = []
    for name, module in model.named_modules():
        if name.endswith((".layers.0", ".layers.1")) and "language_model" in name:
            module.register_forward_hook(
                lambda m, i, out, name=name: reached.append(
                    f"{name[-1]}:{(out[0] if isinstance(out, tuple) else out).requires_grad}"
                )
            )
    PerSampleGradients(model, gradient_parameters(model, "lora:last1"))(batch)
    assert reached == ["0:False", "1:True"]


@pytest.mark.parametrize("count", [0, 3])
def test_layers_that_the_model_lacks_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"last_layers={count}: .* has 2 layers"):
        gradient_parameters(with_adapter(small_llava()), f"lora:last{count}")


def test_the_projector_is_in_no_layer() -> None:
    names = [n for n, _ in gradient_parameters(with_adapter(small_llava()), "lora+projector:last2")]
    assert names
    assert not any("multi_modal_projector" in name for name in names)
