"""What a run at the paper's scale would cost, before anything is there: an estimate by arithmetic.

Floating-point operations follow from the model's shape: 2 for each weight and token on the way
forward, 2 on the way back to the activations, 4 more for an adapter's own weights, and another
forward pass where activations are recomputed. Scores and weighted sums of attention are left out:
by torch's counter 3% of LLaVA-1.5 7B's language model at 800 tokens, 8% of its vision tower.
Nothing here was measured on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import LoraSettings, ModelSettings, TrainerSettings

BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0, "bit1": 0.125}
SHAPE = ("layers", "hidden", "intermediate", "key_value", "vocabulary", "image_tokens", "vision",
         "vision_hidden")  # fmt: skip
QUANTIZED = {4: 0.516, 8: 1.0}
"""Bytes of a weight by `trainer.bits`: NF4 with its scales quantized too (QLoRA, arXiv:2305.14314,
section 3: 0.127 bits a weight), and 8 bits."""
ADAM_BYTES = 16
"""Bytes of a trained weight in float32: itself, its gradient, two moments."""


@dataclass(frozen=True)
class Device:
    """A device's dense bfloat16 peak (no sparsity) and memory, from its maker's data sheet."""

    name: str
    teraflops: float
    gigabytes: int


DEVICES = (
    Device("RTX A6000", 154.8, 48),
    Device("A100 80GB", 312.0, 80),
    Device("L40S", 362.0, 48),
    Device("H100 SXM", 989.0, 80),
    Device("H200 SXM", 989.0, 141),
)
UTILISATION = 0.35
"""Assumed share of the peak that training reaches."""
TEXT_TOKENS = 250
"""Assumed text tokens of a sample, where the pool has not been read yet."""
IMAGE_SHARE = 0.939
"""Share of rows with an image: 624,610 of LLaVA-665K's 665,298 (docs/methods.md#pools)."""


@dataclass(frozen=True)
class Counts:
    """Weights by part."""

    language: int
    """In the linears of the language model's layers and in `head`."""
    head: int
    """In `lm_head`."""
    embedding: int
    vision: int
    projector: int
    adapter: int

    @property
    def frozen(self) -> int:
        """Weights that no stage trains."""
        return self.language + self.embedding + self.vision


@dataclass(frozen=True)
class StageCost:
    """One stage's work; what each kind of step asks for is in `step_costs.py`."""

    stage: str
    samples: int
    steps: int | None
    petaflops: float
    """Total operations, 1e15."""
    disk_bytes: float = 0.0


def counts(model: ModelSettings, lora: LoraSettings) -> Counts:
    """Count the weights of `model.shape` and of an adapter on all linears of its layers."""
    shape = model.shape or {}
    missing = [name for name in SHAPE if name not in shape]
    if missing:
        raise ConfigError(f"model.shape.{missing[0]} is not set: a plan of the cost needs it.")
    h, wide, kv = shape["hidden"], shape["intermediate"], shape["key_value"]
    linears = [(h, h), (h, kv), (h, kv), (h, h), (h, wide), (h, wide), (wide, h)]
    layers, vocabulary = shape["layers"], shape["vocabulary"]
    return Counts(
        language=layers * sum(a * b for a, b in linears) + h * vocabulary,
        head=h * vocabulary,
        embedding=h * vocabulary + (2 * layers + 1) * h,
        vision=shape["vision"],
        projector=shape["vision_hidden"] * h + h + h * h + h,
        adapter=layers * lora.rank * sum(a + b for a, b in linears),
    )


def memory_by_part(n: Counts, trainer: TrainerSettings) -> dict[str, float]:
    """Return bytes on one device of training by part, without activations.

    Of a model that is spread (`fsdp2`), each device has its share of the layers and of what is
    trained; of a quantized one the layers are small, and head, tower and embeddings are not.
    """
    devices = trainer.devices * trainer.num_nodes if trainer.strategy == "fsdp2" else 1
    return {
        "frozen weights": _frozen_bytes(n, trainer, devices),
        "adapter, its gradient and moments": ADAM_BYTES * n.adapter / devices,
        "projector, its gradient and moments": ADAM_BYTES * n.projector / devices,
    }


def memory_by_work(n: Counts, trainer: TrainerSettings) -> dict[str, float]:
    """Return bytes on one device, without activations, of training, selection and evaluation.

    Gradients and features are taken of a whole model, and an adapter is merged into full weights.
    """
    return {
        "training": sum(memory_by_part(n, trainer).values()),
        "gradients": _frozen_bytes(n, trainer) + 4.0 * (n.adapter + n.projector),
        "evaluation": BYTES[trainer.model_dtype] * (n.frozen + n.projector),
    }


def _frozen_bytes(n: Counts, trainer: TrainerSettings, devices: int = 1) -> float:
    """Bytes of the frozen weights on one device of those that share the layers."""
    full, layers = BYTES[trainer.model_dtype], n.language - n.head
    each = QUANTIZED[trainer.bits] if trainer.bits else full
    return each * layers / devices + full * (n.frozen - layers)


def hours(petaflops: float, device: Device, utilisation: float = UTILISATION) -> float:
    """Return device-hours at a share of the device's peak."""
    return petaflops * 1e15 / (device.teraflops * 1e12 * utilisation) / 3600
