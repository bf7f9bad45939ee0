"""Per-sample gradients of linear layers, formed during one backward pass over a whole batch.

For y = x W^T + b and sample i, with x_i `[L, in]` and the output's gradient g_i `[L, out]`:

    dL_i/dW = g_i^T x_i        dL_i/db = sum over tokens of g_i

Autograd would add these over the batch; here each chosen layer runs through a small autograd
function that keeps them apart. Because it saves its input the ordinary way, gradient checkpointing
and its recomputation work unchanged. The same identity underlies Opacus and bergson.

Under autocast the layer computes in autocast's type, as it would in training, and the sums over
tokens are float32; without autocast everything stays in the layer's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from icons_repro.core.errors import ConfigError
from icons_repro.models.families import sees_images

Deliver = Callable[[int, torch.Tensor], None]
"""Receives a parameter's index and its per-sample gradients `[B, *shape]`, once a batch."""


Observe = Callable[[str, torch.Tensor, torch.Tensor], None]
"""Receives a layer's name, its input `[B, L, in]` and its output's gradient `[B, L, out]`."""


class _PerSampleLinear(torch.autograd.Function):
    """`functional.linear` whose backward hands (input, output gradient) to a callback."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        received: Callable[[torch.Tensor, torch.Tensor], None],
    ) -> torch.Tensor:
        ctx.dtype = x.dtype
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(kind))  # what is kept until the backward pass
        ctx.save_for_backward(x, weight)
        ctx.received = received
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        ctx.received(x.to(gradient.dtype), gradient)
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = (gradient @ weight.to(gradient.dtype)).to(ctx.dtype)
        return of_input, None, None, None


@dataclass
class _Layer:
    """One linear layer with the indices of its chosen parameters."""

    name: str
    module: nn.Linear
    weight: int | None = None
    bias: int | None = None
    calls: int = 0
    parts: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    @property
    def per_image(self) -> bool:
        """Whether it sees one leading row per image, tile or patch instead of one per sample."""
        return sees_images(self.name)

    def chosen(self) -> list[tuple[int, torch.Tensor]]:
        """Return (index, parameter) of the chosen ones of weight and bias."""
        pairs = ((self.weight, self.module.weight), (self.bias, self.module.bias))
        return [(index, parameter) for index, parameter in pairs if index is not None]


class LinearCapture:
    """Captures per-sample gradients of chosen weights and biases of linear layers."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        """Find the layer of each named parameter.

        Raises:
            ConfigError: a parameter does not belong to an ordinary linear layer; lists them all.
        """
        modules = dict(model.named_modules())
        head = getattr(model, "get_output_embeddings", lambda: None)()
        in_head = set() if head is None else set(head.modules())
        layers: dict[str, _Layer] = {}
        unsupported = []
        for index, name in enumerate(names):
            owner, _, kind = name.rpartition(".")
            module = modules.get(owner)
            if type(module) is not nn.Linear or module in in_head or kind not in ("weight", "bias"):
                unsupported.append(name)
                continue
            layer = layers.setdefault(owner, _Layer(owner, module))
            setattr(layer, kind, index)
        if unsupported:
            raise ConfigError(
                f"gradients.per_sample=batched cannot separate {len(unsupported)} of the chosen "
                f"parameters by sample (not in an ordinary linear layer): {', '.join(unsupported)}."
                " Narrow gradients.parameters, or set gradients.per_sample=loop."
            )
        self._layers = list(layers.values())
        self.observe: Observe | None = None
        """Sees each layer's inputs and output gradients, as curvature needs them."""
        self._in_backward = False
        self._delivered: set[int] = set()

    @contextmanager
    def running(self, rows: int, of_unit: torch.Tensor | None, deliver: Deliver) -> Iterator[None]:
        """Route the layers through the capture; `deliver` is called as gradients are complete.

        Args:
            rows: B, the number of samples.
            of_unit: the sample of each image, tile or patch `[U]`, ascending, or None.
            deliver: see `Deliver`.
        """
        self._in_backward = False
        self._delivered = set()
        for layer in self._layers:
            layer.calls, layer.parts = 0, {}
            # An instance attribute hides the class's `forward` until it is deleted again.
            setattr(layer.module, "forward", self._forward(layer, rows, of_unit, deliver))  # noqa: B010
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.module.forward
                layer.parts = {}

    def begin_backward(self) -> None:
        """Say that the forward pass is over: later calls are recomputations of checkpointing."""
        self._in_backward = True
        unused = [x.name for x in self._layers if not x.calls and not x.per_image]
        if unused:
            raise ConfigError(
                f"{len(unused)} chosen layers take no part in the model's forward pass "
                f"({', '.join(unused[:3])}): merged, disabled or unusual adapters (DoRA)? "
                "Set gradients.per_sample=loop to see what autograd makes of them."
            )

    def deliver_unreached(self, rows: int, deliver: Deliver) -> None:
        """Deliver zeros for the layers that the backward pass never reached (no images)."""
        for layer in self._layers:
            for index, parameter in layer.chosen():
                if index not in self._delivered:
                    deliver(index, parameter.new_zeros(rows, *parameter.shape))

    def _forward(
        self, layer: _Layer, rows: int, of_unit: torch.Tensor | None, deliver: Deliver
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        def received(x: torch.Tensor, gradient: torch.Tensor) -> None:
            groups = of_unit if layer.per_image else None
            if self.observe is not None:
                self.observe(layer.name, x, gradient)
            for index, part in _gradients(layer, x, gradient, rows, groups):
                parts = layer.parts.setdefault(index, [])
                parts.append(part)
                if len(parts) == layer.calls:
                    self._delivered.add(index)
                    deliver(index, sum(parts[1:], parts[0]))
                    parts.clear()

        def forward(x: torch.Tensor) -> torch.Tensor:
            if not self._in_backward:
                layer.calls += 1
            module = layer.module
            return _PerSampleLinear.apply(x, module.weight, module.bias, received)

        return forward


def _gradients(
    layer: _Layer, x: torch.Tensor, gradient: torch.Tensor, rows: int, of_unit: torch.Tensor | None
) -> list[tuple[int, torch.Tensor]]:
    """Return (parameter index, `[B, *shape]`) for the layer's chosen weight and bias."""
    groups = rows if of_unit is None else len(of_unit)
    merged = 1 if of_unit is None or not len(x) else max(1, groups // len(x))
    if x.dim() < 2 or x.shape[0] * merged != groups:
        raise ConfigError(
            f"gradients.per_sample=batched: {layer.name} sees a tensor of shape {list(x.shape)}, "
            f"not one leading row for each of {groups} samples or images (experts, packed "
            "sequences?). Leave it out of gradients.parameters, or set gradients.per_sample=loop."
        )
    if of_unit is not None and x.dim() == 2:  # tokens of all images in one row
        return _segment_sums(layer, x, gradient, of_unit[::merged].bincount(minlength=rows))
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    gradient = gradient.reshape(gradient.shape[0], -1, gradient.shape[-1])
    found = []
    if layer.weight is not None:
        found.append((layer.weight, _token_sums(gradient, x)))
    if layer.bias is not None:
        found.append((layer.bias, gradient.sum(dim=1, dtype=_sum_type(gradient))))
    if of_unit is not None:
        owners = of_unit[::merged]
        found = [(i, g.new_zeros(rows, *g.shape[1:]).index_add_(0, owners, g)) for i, g in found]
    return found


def _segment_sums(
    layer: _Layer, x: torch.Tensor, gradient: torch.Tensor, counts: torch.Tensor
) -> list[tuple[int, torch.Tensor]]:
    """Return what `_gradients` does, of tokens `[T, in]` and `[T, out]` that lie sample by sample.

    `counts` are the tokens of each sample `[B]`. A tower that merges neighbouring patches to one
    token (Qwen's) keeps the images' order.
    """
    wide = _sum_type(gradient)
    sizes = counts.tolist()
    parts = list(zip(gradient.to(wide).split(sizes), x.to(wide).split(sizes), strict=True))
    found = []
    if layer.weight is not None:
        found.append((layer.weight, torch.stack([g.T @ own for g, own in parts])))
    if layer.bias is not None:
        found.append((layer.bias, torch.stack([g.sum(dim=0) for g, _ in parts])))
    return found


def _token_sums(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return `[B, out, in]`, the sums over tokens of `[B, L, out]` times `[B, L, in]`.

    In float32 where the inputs are shorter: the products are exact and the sum is not rounded.
    """
    left = gradient.transpose(1, 2)
    wide = _sum_type(gradient)
    if wide == gradient.dtype:
        return torch.bmm(left, x)
    if gradient.is_cuda:  # on the tensor cores
        return torch.bmm(left, x, out_dtype=wide)
    return torch.bmm(left.to(wide), x.to(wide))


def _sum_type(values: torch.Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
