"""Attach LoRA to the language model alone, and put its parameters in one canonical order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.settings import LoraSettings
from icons_repro.models.answers import base_model
from icons_repro.models.families import (
    FAMILIES,
    family_of_model,
    language_layers,
    sees_images,
)

PROJECTORS = "|".join(
    sorted(re.escape(path) for family in FAMILIES.values() for path in family.projectors)
)
IN_PROJECTOR = re.compile(rf"\.({PROJECTORS})\.")
PEFT_PREFIX = "base_model.model."
LAYER = re.compile(r"\.language_model\.layers\.(\d+)\.")
LAST_LAYERS = re.compile(r"(.+):last(\d+)")
Module = TypeVar("Module", bound=nn.Module)
State: TypeAlias = dict[str, torch.Tensor]


def language_linears(model: nn.Module) -> list[str]:
    """Return the leaf names of every linear inside the language model's layers, sorted."""
    layers = language_layers(model)
    names = (n for n, module in layers.named_modules() if isinstance(module, nn.Linear))
    return sorted({name.rsplit(".", 1)[-1] for name in names})


def in_projector(name: str) -> bool:
    """Say whether a parameter's name is that of one between vision tower and language model."""
    return IN_PROJECTOR.search(name) is not None


def attach_lora(model: Any, settings: LoraSettings) -> PeftModel:
    """Freeze `model`, add a fresh LoRA to every linear of its language model, free the projector.

    Nothing in the vision tower or `lm_head` becomes trainable. What does is float32 whatever the
    type of the frozen weights.
    """
    model.requires_grad_(False)
    leaves = "|".join(language_linears(model))
    language = re.escape(family_of_model(model).language)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=rf".*\.{language}\.layers\..*\.({leaves})",
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config)
    for module in projectors_in_float32(peft_model).values():
        module.requires_grad_(True)
    check_single_adapter(peft_model)
    return peft_model


def load_adapter(model: Any, folder: Path, trainable: bool = False) -> PeftModel:
    """Put the adapter of `folder` on `model`, once, and load the projector trained with it.

    Raises `DataError` if the folder is incomplete or the model already carries an adapter.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors", "projector.safetensors"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not a whole adapter folder: {name} is missing.")
    if any(isinstance(module, LoraLayer) for module in model.modules()):
        raise DataError(f"the model already carries an adapter; {folder} would be the second.")
    peft_model = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    trained = projectors_in_float32(peft_model)
    state = load_file(folder / "projector.safetensors")
    for path, module in trained.items():
        prefix = _prefix(trained, path)
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        module.load_state_dict(own)
        module.requires_grad_(trainable)
    check_single_adapter(peft_model)
    return peft_model


def projectors(model: nn.Module) -> dict[str, nn.Module]:
    """Return what leads from the vision tower to the language model, by path in the body.

    One module in most families; whatever wraps the model.
    """
    body: nn.Module = base_model(model).model  # type: ignore[assignment]
    return {path: body.get_submodule(path) for path in family_of_model(model).projectors}


def projector(model: nn.Module) -> nn.Module:
    """Return the projector of a family that has one."""
    (module,) = projectors(model).values()
    return module


def projectors_in_float32(model: nn.Module) -> dict[str, nn.Module]:
    """Keep the projectors in float32 from here on and return them, by path.

    Without autocast one gets the tower's bfloat16 as float32; models hand its output on in the type
    of the text's embeddings. Gradients end at its input: what lies before is frozen.
    """
    found = projectors(model)
    for module in found.values():
        for part in module if isinstance(module, nn.ModuleList) else [module]:
            to_float32(part).register_forward_pre_hook(_enter_projector)
    return found


def _enter_projector(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return inputs[0].detach().to(next(module.parameters()).dtype), *inputs[1:]


def to_float32(module: Module) -> Module:
    """Turn the module's parameters of less than 32 bits into float32, in place; buffers stay.

    AdamW in bfloat16 loses every update below 1/256 of a weight, so what trains is float32.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.itemsize < 4:
            parameter.data = parameter.data.float()
    return module


def require_float32(trained: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Raise `ConfigError` naming a trained parameter that would lose small updates."""
    narrow = [(name, p.dtype) for name, p in trained if p.itemsize < 4]
    if narrow:
        name, dtype = narrow[0]
        raise ConfigError(
            f"{name} would be trained in {dtype} ({len(narrow)} such parameters): updates below "
            "its rounding are lost. Use trainer.precision=bf16-mixed (not bf16-true), and "
            "trainer.model_dtype for the frozen weights alone."
        )


def checkpoint_layers(model: Any) -> None:
    """Recompute the layers in the backward pass instead of keeping what they computed.

    transformers' switch also makes all embeddings require gradients, CLIP's patches too, so that
    each step would run back through a frozen tower. Checkpoints that are not re-entrant do without.
    """
    recompute(model, reentrant=False)
    model.disable_input_require_grads()


def recompute(model: Any, reentrant: bool) -> None:
    """Turn on transformers' switch; 5.22 and older know it by the older of its two names alone."""
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    switch = next(name for name in names if hasattr(model, name))
    getattr(model, switch)({"use_reentrant": reentrant})


def check_single_adapter(model: nn.Module) -> None:
    """Raise `DataError` unless each LoRA layer holds one adapter, unmerged, outside the tower."""
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if module.merged or list(module.active_adapters) != ["default"]:
            raise DataError(f"{name}: adapters {module.active_adapters}, merged={module.merged}.")
        if sees_images(name):
            raise DataError(f"{name}: LoRA in the vision tower.")


def gradient_parameters(model: nn.Module, select: str = "lora") -> list[tuple[str, nn.Parameter]]:
    """Return the parameters whose gradient is a sample's feature, sorted by name.

    `select` is "lora", "lora+projector", or a regular expression searched in the full name. With
    ":lastK" behind it, those of the language model's last K layers alone.
    The order defines the columns of every gradient, so it is part of a store's identity.
    """
    if found := LAST_LAYERS.fullmatch(select):
        return in_last_layers(gradient_parameters(model, found[1]), int(found[2]))
    patterns = {
        "lora": r"\.lora_[AB]\.",
        "lora+projector": rf"\.lora_[AB]\.|{IN_PROJECTOR.pattern}",
    }
    pattern = re.compile(patterns.get(select, select))
    chosen = sorted((n, p) for n, p in model.named_parameters() if pattern.search(n))
    if not chosen:
        raise ConfigError(f"gradients.parameters={select!r} matches no parameter of the model.")
    return chosen


def in_last_layers(
    parameters: list[tuple[str, nn.Parameter]], count: int
) -> list[tuple[str, nn.Parameter]]:
    """Return those of the language model's last `count` layers that have chosen parameters.

    Raises `ConfigError` for more layers than there are, or none.
    """
    places = {name: int(found[1]) for name, _ in parameters if (found := LAYER.search(name))}
    layers = sorted(set(places.values()))
    if not 1 <= count <= len(layers):
        raise ConfigError(
            f"gradients.last_layers={count}: the language model has {len(layers)} layers with "
            f"chosen parameters; give 1 to {len(layers)}."
        )
    first = layers[-count]
    return [(name, p) for name, p in parameters if places.get(name, -1) >= first]


def projector_state(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> State:
    """Return the projector's tensors, of a model's `weights` by name, under their own names.

    Where a family has several projectors, each name begins with its path.
    """
    found = projectors(model)
    return {
        f"{_prefix(found, path)}{name.split(mark, 1)[1]}": value
        for path in found
        for mark in (f".{path}.",)
        for name, value in weights.items()
        if mark in name
    }


def _prefix(found: dict[str, nn.Module], path: str) -> str:
    return "" if len(found) == 1 else f"{path}."
