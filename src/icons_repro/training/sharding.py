"""FSDP2, for models that one device cannot hold: each device keeps a share of the weights.

`trainer.strategy=fsdp2`, by Lightning's `ModelParallelStrategy` and torch's `fully_shard`. A layer
of the language model is gathered when it is used and scattered afterwards; gradients and Adam's
moments are scattered too. Vision tower, embeddings and output layer are whole on every device: they
are frozen, and small beside the layers. What is saved is whole, in one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import nn

from icons_repro.core.errors import ConfigError
from icons_repro.models.answers import base_model
from icons_repro.models.families import family_of_model
from icons_repro.models.families.llava import LLAVA
from icons_repro.models.families.llava_next import LLAVA_NEXT
from icons_repro.models.families.llava_onevision import LLAVA_ONEVISION
from icons_repro.models.lora import projector

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from icons_repro.core.settings import TrainerSettings

FSDP2 = "fsdp2"
SHARDED = (LLAVA, LLAVA_NEXT, LLAVA_ONEVISION)
"""Families whose one projector runs on a dummy image where a batch has none."""


class Sharded(ModelParallelStrategy):
    """FSDP2 over all devices, whose resume points are one file of trained weights."""

    def __init__(self, devices: int) -> None:
        super().__init__(
            data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Gather what is trained; the frozen weights are in the base's own folder."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
        )
        assert self.model is not None
        return get_model_state_dict(self.model, options=options)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Gather the moments by parameter name, on the first rank; Lightning would number them."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_optimizer_state_dict,
        )

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        assert self.model is not None
        return get_optimizer_state_dict(self.model, optimizer, options=options)


def check_strategy(settings: TrainerSettings, lora: bool) -> None:
    """Raise `ConfigError` where FSDP2 has no devices to spread over, or all weights to train."""
    if settings.strategy != FSDP2:
        return
    if settings.devices * settings.num_nodes == 1:
        raise ConfigError("trainer.strategy=fsdp2 spreads over devices: set trainer.devices.")
    if not lora:
        raise ConfigError("trainer.strategy=fsdp2 trains LoRA alone, not all weights: take ddp.")


def strategy_of(settings: TrainerSettings) -> str | Strategy:
    """Return what Lightning's Trainer takes."""
    if settings.strategy != FSDP2:
        return settings.strategy
    return Sharded(settings.devices * settings.num_nodes)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread the language model's layers and the projector over the devices of `mesh`, in place.

    Nothing else may be trained: each device would go its own way with it.

    Raises `ConfigError` for a family that is not `SHARDED`.
    """
    from torch.distributed.fsdp import fully_shard

    family = family_of_model(model)
    if family not in SHARDED:
        raise ConfigError(
            f"trainer.strategy=fsdp2 trains {', '.join(one.title for one in SHARDED)}, not "
            f"{family.title}: set trainer.strategy=ddp."
        )
    text: Any = base_model(model).model.language_model  # type: ignore[union-attr]
    for layer in text.layers:
        fully_shard(layer, mesh=mesh)
    embeddings = set(text.get_input_embeddings().parameters())  # used before `text` is called
    fully_shard(text, mesh=mesh, ignored_params=embeddings)
    fully_shard(projector(model), mesh=mesh)
    left = [n for n, p in model.named_parameters() if p.requires_grad and not is_sharded(p)]
    if left:
        raise RuntimeError(f"{left[0]} is trained, and not spread over the devices")


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether each device holds a share of it alone."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor itself, or gathered from all devices, which must all ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
