"""What is made of a gradient before it is projected: SGD, Adam with held moments, or its sign."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from typing_extensions import override

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.gradients.layout import ParameterLayout


class Direction(Protocol):
    """Maps one parameter's gradients to what is scored, of the same shape, row by row."""

    def identity(self) -> dict[str, Any]:
        """Return what a store says about how its rows were made (JSON-ready)."""
        ...

    def __call__(self, index: int, gradients: torch.Tensor) -> torch.Tensor:
        """Map parameter `index`'s gradients `[B, *shape]`; never changes its input or itself."""
        ...


@dataclass(frozen=True)
class SgdDirection(Direction):
    """The gradient itself: what ICONS uses for training and validation samples."""

    @override
    def identity(self) -> dict[str, Any]:
        return {"kind": "sgd"}

    @override
    def __call__(self, index: int, gradients: torch.Tensor) -> torch.Tensor:
        return gradients


@dataclass(frozen=True)
class SignDirection(Direction):
    """The gradient's sign, -1, 0 or 1 (the direction of a signSGD step)."""

    @override
    def identity(self) -> dict[str, Any]:
        return {"kind": "sign"}

    @override
    def __call__(self, index: int, gradients: torch.Tensor) -> torch.Tensor:
        return gradients.sign()


@dataclass(frozen=True)
class AdamDirection(Direction):
    """The direction that Adam would step in, with the checkpoint's moments held constant (LESS).

        Gamma = (b1 m + (1 - b1) g) / sqrt(b2 v + (1 - b2) g^2 + eps)

    No bias correction, eps inside the root, as in princeton-nlp/LESS collect_grad_reps.py:111-127.
    The moments are never updated, so the rows do not depend on their order.
    """

    first: list[torch.Tensor]
    """m, `exp_avg` of each parameter in canonical order."""
    second: list[torch.Tensor]
    """v, `exp_avg_sq`, likewise."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @classmethod
    def load(
        cls,
        path: Path,
        layout: ParameterLayout,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> AdamDirection:
        """Read `{name}.exp_avg` and `{name}.exp_avg_sq` from a safetensors file.

        Raises:
            DataError: the file is missing, or a moment is missing or of another shape.
        """
        if not path.is_file():
            raise DataError(
                f"{path}: no optimizer state, which Adam's direction needs. Use an adapter folder "
                "written by the warmup stage, or set gradients.train_direction=sgd (and "
                "val_direction)."
            )
        moments: dict[str, list[torch.Tensor]] = {"exp_avg": [], "exp_avg_sq": []}
        with safe_open(path, framework="pt") as file:
            present = set(file.keys())
            for name, shape in zip(layout.names, layout.shapes, strict=True):
                for kind, found in moments.items():
                    key = f"{name}.{kind}"
                    tensor = file.get_tensor(key) if key in present else None
                    if tensor is None or tuple(tensor.shape) != shape:
                        seen = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
                        raise DataError(f"{path}: {key} is {seen}; expected {list(shape)}")
                    found.append(tensor.float())
        return cls(moments["exp_avg"], moments["exp_avg_sq"], beta1, beta2, eps)

    @override
    def identity(self) -> dict[str, Any]:
        digest = hashlib.blake2b(digest_size=8)
        for tensor in (*self.first, *self.second):
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        betas = {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        return {"kind": "adam", **betas, "moments": digest.hexdigest()}

    @override
    def __call__(self, index: int, gradients: torch.Tensor) -> torch.Tensor:
        for moments in (self.first, self.second):  # moved to the device once
            moments[index] = moments[index].to(gradients)
        m, v = self.first[index], self.second[index]
        step = self.beta1 * m + (1 - self.beta1) * gradients
        scale = self.beta2 * v + (1 - self.beta2) * gradients.square() + self.eps
        return step / scale.sqrt()


def build_direction(
    kind: str, layout: ParameterLayout, optimizer_file: Path | None = None
) -> Direction:
    """Return the direction of that name: `sgd`, `adam` (needs the file) or `sign`.

    Raises:
        ConfigError: an unknown name, or `adam` without an optimizer file.
    """
    if kind == "sgd":
        return SgdDirection()
    if kind == "sign":
        return SignDirection()
    if kind != "adam":
        raise ConfigError(
            f"gradients.train_direction, val_direction: {kind!r} is no sgd, adam or sign"
        )
    if optimizer_file is None:
        raise ConfigError("the direction adam needs the adapter's optimizer.safetensors")
    return AdamDirection.load(optimizer_file, layout)
