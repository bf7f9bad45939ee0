"""What the rows of a store depend on, and what they do not but for rounding."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import lightning
import torch

from icons_repro.gradients.directions import Direction
from icons_repro.gradients.memory import device_name
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection


def parameter_fingerprint(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return 16 hexadecimal characters that change with any parameter's name or value."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in parameters.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def row_identities(
    gradients: PerSampleGradients,
    projection: Projection,
    direction: Direction,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the rows of a store depend on, for `open_writer`: see `extract`."""
    identities = dict(given or {})
    if "model" not in identities:
        config: Any = gradients.model.config
        text = config.to_json_string()
        identities["model"] = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    if "adapter" not in identities:
        identities["adapter"] = parameter_fingerprint(gradients.parameters)
    return {**identities, "projection": projection.identity(), "direction": direction.identity()}


def made_with(gradients: PerSampleGradients, runner: lightning.Trainer) -> dict[str, Any]:
    """Return what a store's rows do not depend on, but for rounding: where and by which kernels."""
    made = {"device": device_name(runner.strategy.root_device), "precision": str(runner.precision)}
    choice = gradients.attention
    return made if choice is None else {**made, "attention": choice.to_json()}
