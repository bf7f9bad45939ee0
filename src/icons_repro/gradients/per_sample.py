"""Per-sample gradients: the obvious loop, which is the oracle, and the batched path equal to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import nn

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.gradients.attention import AttentionChoice
from icons_repro.gradients.capture import Deliver, LinearCapture, Observe
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.models.answers import answer_losses
from icons_repro.models.batches import Batch, answer_counts, take_rows, unit_rows

Method = Literal["batched", "loop"]


class PerSampleGradients:
    """Takes the gradient of each sample's own loss with respect to chosen parameters.

    Example:
        >>> gradients = PerSampleGradients(model, gradient_parameters(model, "lora"))
        >>> rows, losses = gradients(batch)  # rows[i]: [B, *shape of parameter i]
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[tuple[str, nn.Parameter]],
        method: Method = "batched",
    ) -> None:
        """Prepare; the model is only touched while gradients are being taken.

        Args:
            model: a PEFT or plain transformers model with an output layer.
            parameters: `(name, parameter)` pairs, sorted by name (`gradient_parameters`).
            method: "batched" (one forward and backward a batch) or "loop" (the oracle).

        Raises:
            ConfigError: an unknown method, or parameters that "batched" cannot separate.
            UserError: the adapter is merged, nested or not applied exactly once.
        """
        if method not in get_args(Method):
            raise ConfigError(f"gradients.per_sample={method!r}: choose batched or loop")
        require_adapter_once(model)
        self.model = model
        self.layout = ParameterLayout.of(parameters)
        self.method = method
        self._parameters = [parameter for _, parameter in parameters]
        self._capture = LinearCapture(model, self.layout.names) if method == "batched" else None
        self.attention: AttentionChoice | None = None
        """Which kernels compute attention; None leaves the model as it is."""
        self.image_token_id: int | None = getattr(model.config, "image_token_id", None)

    @contextmanager
    def observing(self, observe: Observe) -> Iterator[None]:
        """Let `observe` see the inputs and output gradients of every chosen layer.

        Raises:
            ConfigError: gradients are taken one by one, where layers are not looked into.
        """
        if self._capture is None:
            raise ConfigError("curvature needs gradients.per_sample=batched.")
        self._capture.observe = observe
        try:
            yield
        finally:
            self._capture.observe = None

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The chosen parameters by name, in canonical order."""
        return dict(zip(self.layout.names, self._parameters, strict=True))

    def stream(self, batch: Batch, deliver: Deliver) -> torch.Tensor:
        """Hand over each parameter's gradients `[B, *shape]` as they are formed.

        Memory stays at one parameter's gradients besides what `deliver` keeps. A row without
        answer tokens has gradient 0.

        Returns:
            Each sample's loss `[B]`, detached.
        """
        kernels = nullcontext() if self.attention is None else self.attention.on(self.model)
        with kernels, _differentiable(self.model, self._parameters), torch.enable_grad():
            if self._capture is None:
                return self._loop(batch, deliver)
            return self._batched(self._capture, batch, deliver)

    def __call__(self, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return all gradients of a batch, `[B, *shape]` each in canonical order, and losses."""
        found: dict[int, torch.Tensor] = {}
        losses = self.stream(batch, found.__setitem__)
        return [found[i] for i in range(len(self._parameters))], losses

    def _batched(self, capture: LinearCapture, batch: Batch, deliver: Deliver) -> torch.Tensor:
        rows = len(batch["input_ids"])
        with capture.running(rows, unit_rows(batch, self.image_token_id), deliver):
            losses = answer_losses(self.model, batch)
            capture.begin_backward()
            # Autocast is for the forward pass; what is made of gradients must not be rounded by it.
            with torch.autocast(losses.device.type, enabled=False):
                if losses.requires_grad:
                    losses.sum().backward()
                capture.deliver_unreached(rows, deliver)
        return losses.detach()

    def _loop(self, batch: Batch, deliver: Deliver) -> torch.Tensor:
        counts = answer_counts(batch).tolist()
        losses, rows = [], []
        for row, count in enumerate(counts):
            one = take_rows(batch, [row], self.image_token_id)
            loss = answer_losses(self.model, one, answers_only=False)
            with torch.autocast(loss.device.type, enabled=False):
                rows.append(self._gradient(loss.sum() if count else None))
            losses.append(loss.detach())
        with torch.autocast(losses[0].device.type, enabled=False):
            for index in range(len(self._parameters)):
                deliver(index, torch.stack([gradients[index] for gradients in rows]))
        return torch.cat(losses)

    def _gradient(self, loss: torch.Tensor | None) -> list[torch.Tensor]:
        for parameter in self._parameters:
            parameter.grad = None
        if loss is not None:
            loss.backward()
        taken = [
            torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in self._parameters
        ]
        for parameter in self._parameters:
            parameter.grad = None
        return taken


def require_adapter_once(model: nn.Module) -> None:
    """Assert that LoRA, where there is any, is applied exactly once.

    The released code merged the adapter and then wrapped the merged model with the same adapter
    again, so its gradients were taken at W + 2 dW (docs/methods.md#released-code, 4).

    Raises:
        UserError: layers are merged, nested, disabled, or carry several active adapters.
    """
    faults = []
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A") or not hasattr(module, "base_layer"):
            continue
        layer: Any = module
        if layer.merged:
            faults.append(f"{name}: merged into the base weights")
        elif layer.disable_adapters:
            faults.append(f"{name}: disabled")
        elif len(layer.active_adapters) != 1:
            faults.append(f"{name}: active adapters {list(layer.active_adapters)}")
        elif hasattr(layer.base_layer, "lora_A") or ".base_layer." in f"{name}.":
            faults.append(f"{name}: an adapter inside an adapter")
    if faults:
        raise UserError(
            f"the adapter must be applied exactly once; {len(faults)} layers say otherwise, "
            f"first {faults[0]}. Load the base model afresh and attach the adapter once."
        )


@contextmanager
def _differentiable(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode (no dropout) with gradients for the chosen parameters only.

    transformers checkpoints layers in training mode only; the layers that asked for it are put in
    that mode by themselves, while everything inside them stays in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for module in modes:
        if getattr(module, "gradient_checkpointing", False) and _is_checkpointed_layer(module):
            module.training = True
    for parameter in wanted:
        parameter.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, required in wanted.items():
            parameter.requires_grad_(required)


def _is_checkpointed_layer(module: nn.Module) -> bool:
    return any(kind.__name__ == "GradientCheckpointingLayer" for kind in type(module).__mro__)
