"""The batched path equals the obvious loop, whatever the batch looks like."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gradient_models import IMAGE_TOKEN, MIXED, batch_of, small_llava, with_adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import nn

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.models.batches import take_rows
from icons_repro.models.lora import gradient_parameters, recompute


def rows_of(
    model: nn.Module, batch: dict[str, torch.Tensor], method: str = "batched", select: str = "lora"
) -> torch.Tensor:
    gradients = PerSampleGradients(model, gradient_parameters(model, select), method)  # type: ignore[arg-type]
    parts, _ = gradients(batch)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest |a_i - b_i| / |b_i| over rows i."""
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


@pytest.mark.parametrize("select", ["lora", "lora+projector", r"layers\.1\.mlp.*lora_B"])
def test_batched_equals_the_loop_in_float64(llava64: PeftModel, select: str) -> None:
    batch = batch_of(MIXED, padding=3)
    oracle = rows_of(llava64, batch, "loop", select)
    assert relative_error(rows_of(llava64, batch, select=select), oracle) < 1e-9
    assert bool((oracle.norm(dim=1) > 0).all())


@pytest.mark.parametrize("select", ["lora", "lora+projector"])
def test_batched_equals_the_loop_in_float32(select: str) -> None:
    model = with_adapter(small_llava(dtype=torch.float32))
    batch = batch_of(MIXED, dtype=torch.float32, padding=5)
    oracle = rows_of(model, batch, "loop", select)
    assert relative_error(rows_of(model, batch, select=select), oracle) < 1e-5


@settings(max_examples=12, deadline=None)
@given(
    order=st.permutations(range(len(MIXED))),
    keep=st.integers(min_value=1, max_value=len(MIXED)),
    padding=st.integers(min_value=0, max_value=9),
)
def test_a_row_does_not_depend_on_its_batch(
    llava64: PeftModel, order: Sequence[int], keep: int, padding: int
) -> None:
    whole = rows_of(llava64, batch_of(MIXED))
    chosen = list(order[:keep])
    part = take_rows(batch_of(MIXED, padding=padding), chosen, IMAGE_TOKEN)
    assert relative_error(rows_of(llava64, part), whole[chosen]) < 1e-9


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing_but_is_used(reentrant: bool) -> None:
    model = with_adapter(small_llava())
    batch = batch_of(MIXED)
    plain = rows_of(model, batch, select="lora+projector")
    calls = []
    layer = model.get_base_model().model.language_model.layers[0].mlp
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    recompute(model, reentrant)
    assert relative_error(rows_of(model, batch, select="lora+projector"), plain) < 1e-9
    assert len(calls) == 2, "once forward, once when recomputed"


def test_the_loss_is_the_mean_over_the_answer_tokens_of_all_turns(llava64: PeftModel) -> None:
    batch = batch_of(MIXED)
    _, losses = PerSampleGradients(llava64, gradient_parameters(llava64))(batch)
    for i in range(len(MIXED)):
        one = take_rows(batch, [i], IMAGE_TOKEN)
        inputs = {k: v for k, v in one.items() if k != "positions"}
        with torch.no_grad():
            expected = llava64.eval()(**inputs).loss
        assert float(losses[i]) == pytest.approx(float(expected), rel=1e-6)  # HF casts to float32


def test_dropout_is_off_and_the_models_modes_are_restored(llava64: PeftModel) -> None:
    llava64.train()
    before = {n: (p.requires_grad, p.grad) for n, p in llava64.named_parameters()}
    batch = batch_of(MIXED)
    assert torch.equal(rows_of(llava64, batch), rows_of(llava64, batch))
    assert llava64.training
    assert {n: (p.requires_grad, p.grad) for n, p in llava64.named_parameters()} == before


def test_a_row_without_answers_has_gradient_zero_and_spoils_no_other(llava64: PeftModel) -> None:
    batch = batch_of(MIXED)
    expected = rows_of(llava64, batch)
    batch["labels"][2] = -100
    for method in ("batched", "loop"):
        rows = rows_of(llava64, batch, method)
        assert float(rows[2].norm()) == 0
        others = [0, 1, 3, 4]
        assert relative_error(rows[others], expected[others]) < 1e-9


def test_a_batch_of_texts_alone_gives_the_projector_gradient_zero(llava64: PeftModel) -> None:
    batch = batch_of([(0, 8, (3, 5)), (0, 6, (2, 4))])
    rows = rows_of(llava64, batch, select="lora+projector")
    assert relative_error(rows, rows_of(llava64, batch, "loop", "lora+projector")) < 1e-9


def test_parameters_that_cannot_be_separated_are_all_named(llava64: PeftModel) -> None:
    with pytest.raises(ConfigError, match=r"norm\.weight.*per_sample=loop"):
        rows_of(llava64, batch_of(MIXED), select=r"norm\.weight|lora_A")
    with pytest.raises(ConfigError, match="lm_head"):
        rows_of(llava64, batch_of(MIXED), select="lm_head")
    rows = rows_of(llava64, batch_of(MIXED), "loop", r"language_model\.norm\.weight")
    assert bool((rows.norm(dim=1) > 0).all())


def test_an_adapter_that_is_not_applied_once_is_refused() -> None:
    merged = with_adapter(small_llava())
    merged.merge_adapter()
    with pytest.raises(UserError, match="merged"):
        rows_of(merged, batch_of(MIXED))
    disabled = with_adapter(small_llava())
    with disabled.disable_adapter(), pytest.raises(UserError, match="disabled"):
        rows_of(disabled, batch_of(MIXED))
    doubled = with_adapter(small_llava()).merge_and_unload()
    twice = with_adapter(doubled)
    twice.add_adapter("second", twice.peft_config["default"])
    twice.base_model.set_adapter(["default", "second"])
    with pytest.raises(UserError, match="second"):
        rows_of(twice, batch_of(MIXED))


def test_an_unknown_method_is_refused(llava64: PeftModel) -> None:
    with pytest.raises(ConfigError, match="batched or loop"):
        rows_of(llava64, batch_of(MIXED), "fast")


def test_a_layer_used_twice_gets_the_sum() -> None:
    model = with_adapter(small_llava())
    layers = model.get_base_model().model.language_model.layers
    layers[1].mlp = layers[0].mlp
    batch = batch_of(MIXED)
    assert relative_error(rows_of(model, batch), rows_of(model, batch, "loop")) < 1e-9
