"""What trains is float32, whatever the frozen weights are, and gradients end where it ends."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import LoraSettings
from icons_repro.models.answers import answer_logits
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import load_model
from icons_repro.models.lora import (
    attach_lora,
    checkpoint_layers,
    load_adapter,
    projector,
    require_float32,
    to_float32,
)
from icons_repro.training.checkpoint import save_adapter

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def batch_for(model: nn.Module) -> dict[str, torch.Tensor]:
    """Two rows, one with an image, padded; the last three tokens of each are the answer."""
    torch.manual_seed(1)
    token, images = model.config.image_token_id, model.config.image_seq_length
    ids = torch.randint(10, 60, (2, images + 12))
    ids[0, :images] = token
    ids[1, 16:] = 0
    mask = torch.ones_like(ids)
    mask[1, 16:] = 0
    labels = torch.full_like(ids, IGNORE)
    labels[0, -3:], labels[1, 13:16] = ids[0, -3:], ids[1, 13:16]
    side = model.config.vision_config.image_size
    pixels = torch.randn(1, 3, side, side)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "pixel_values": pixels}


def loss_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits, targets = answer_logits(model, inputs, batch["labels"])
    return nn.functional.cross_entropy(logits, targets)


def test_adapter_and_projector_are_float32_on_a_bfloat16_base(
    tiny_base: Path, tmp_path: Path
) -> None:
    model = attach_lora(load_model(tiny_base, torch.bfloat16), LORA)
    assert {p.dtype for _, p in trained(model)} == {torch.float32}
    assert any("multi_modal_projector" in name for name, _ in trained(model))
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    with torch.no_grad():
        for _, parameter in trained(model):
            parameter.add_(1e-4 * torch.randn_like(parameter))
    optimizer = torch.optim.AdamW([p for _, p in trained(model)])
    save_adapter(model, trained(model), optimizer, tmp_path, {})
    again = load_adapter(load_model(tiny_base, torch.bfloat16), tmp_path)
    for name, value in load_file(tmp_path / "projector.safetensors").items():
        found = projector(again).state_dict()[name]
        assert found.dtype == torch.float32
        assert torch.equal(found, value), "not a bit may be lost on the way"


@pytest.mark.parametrize("autocast", [False, True])
def test_a_bfloat16_base_runs_with_and_without_autocast(tiny_base: Path, autocast: bool) -> None:
    exact = attach_lora(load_model(tiny_base), LORA)
    model = attach_lora(load_model(tiny_base, torch.bfloat16), LORA)
    batch = batch_for(exact)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = loss_of(model, batch)
    assert loss.item() == pytest.approx(loss_of(exact, batch).item(), rel=0.02)
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for _, p in trained(model))


def test_a_narrow_trained_parameter_is_refused_by_name(tiny_base: Path) -> None:
    model = attach_lora(load_model(tiny_base, torch.bfloat16), LORA)
    require_float32(trained(model))
    projector(model).to(torch.bfloat16)
    with pytest.raises(ConfigError, match=r"multi_modal_projector\.\S+ would be trained in .*bf"):
        require_float32(trained(model))


def test_wider_types_stay_as_they_are() -> None:
    module = nn.Linear(2, 2, dtype=torch.float64)
    module.register_buffer("steps", torch.zeros(1, dtype=torch.bfloat16))
    assert to_float32(module).weight.dtype == torch.float64
    assert module.get_buffer("steps").dtype == torch.bfloat16


def test_checkpointed_layers_give_the_same_gradients_and_leave_the_tower_alone(
    tiny_base: Path,
) -> None:
    found = {}
    for checkpointed in (False, True):
        torch.manual_seed(0)
        base = load_model(tiny_base)
        model = attach_lora(base, LORA).train()
        if checkpointed:
            checkpoint_layers(base)
        calls: list[bool] = []
        base.model.vision_tower.register_forward_hook(
            lambda _m, _i, output, seen=calls: seen.append(output[0].requires_grad)
        )
        layers: list[int] = []
        base.model.language_model.layers[1].mlp.register_forward_pre_hook(
            lambda *_, seen=layers: seen.append(1)
        )
        loss_of(model, batch_for(base)).backward()
        assert calls == [False], "the frozen tower takes no part in the backward pass"
        assert len(layers) == 1 + checkpointed
        found[checkpointed] = {n: p.grad for n, p in trained(model)}
    assert any("multi_modal_projector" in n and g.any() for n, g in found[True].items())
    for name, gradient in found[False].items():
        torch.testing.assert_close(found[True][name], gradient)


def test_gradients_end_at_the_projector_even_if_the_tower_asks_for_them(tiny_base: Path) -> None:
    base = load_model(tiny_base)
    model = attach_lora(base, LORA)
    base.enable_input_require_grads()  # as PEFT and transformers do for checkpointing
    reached: list[torch.Tensor] = []
    tower = base.model.vision_tower

    def watch(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.requires_grad_(True).register_hook(reached.append)

    next(
        m for n, m in tower.named_modules() if n.endswith("patch_embedding")
    ).register_forward_hook(watch)
    loss_of(model, batch_for(base)).backward()
    assert not reached
    assert all(p.grad is not None for p in projector(model).parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_the_answers_alone_give_the_models_own_loss_and_gradients(
    tiny_base: Path, dtype: torch.dtype
) -> None:
    model = attach_lora(load_model(tiny_base), LORA).to(dtype)
    with torch.no_grad():
        for name, parameter in trained(model):
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    batch = batch_for(model)
    batch["pixel_values"] = batch["pixel_values"].to(dtype)
    whole = model(**batch, use_cache=False).loss
    whole_gradients = torch.autograd.grad(whole, [p for _, p in trained(model)])
    loss = loss_of(model, batch)
    gradients = torch.autograd.grad(loss, [p for _, p in trained(model)])
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)  # transformers' is float32
    for ours, theirs in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
